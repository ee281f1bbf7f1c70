//go:build guest

package netboot

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/test/vm"
)

// TestPXELinux has a machine boot by PXELINUX from our export, with plain dnsmasq. Nothing is on its command line to raise: the container is
// raised from outside, as layercake does it: GET, POST, GET, PATCH, DELETE.
func TestPXELinux(t *testing.T) {
	t.Parallel()
	w := free(t)
	s := site{wire: w, mode: "off"}
	s.serve(t)
	root := s.export(t, "pxelinux")
	if err := order("cp", "/usr/lib/PXELINUX/pxelinux.0", "/usr/lib/syslinux/modules/bios/ldlinux.c32", root); err != nil {
		t.Fatal(err)
	}
	w.plainDnsmasq(t, "--enable-tftp", "--tftp-root="+root, "--dhcp-boot=pxelinux.0")
	m := w.on(t, bios, 0)
	m.shows("PXELINUX")
	m.within("its API answers, with no container", func() bool { all, err := m.containers(); return err == nil && len(all) == 0 })
	m.at(bootstage.Daemon)
	m.layercake()
}

// layercake raises a container and takes it down.
func (m *machine) layercake() {
	body := strings.Replace(debian(m.wire.url()+"/images/debian.squashfs"), "{", `{"state":"running",`, 1)
	m.orders(http.MethodPost, "/container", body, http.StatusCreated)
	m.ready("debian")
	m.passed()
	m.orders(http.MethodPatch, "/container?name=debian&state=exited", "", http.StatusOK)
	m.within("the container has exited", func() bool {
		all, err := m.containers()
		return err == nil && len(all) == 1 && all[0].State == "exited"
	})
	m.orders(http.MethodDelete, "/container?name=debian", "", http.StatusOK)
	for _, kind := range []string{"/container", "/mount", "/attach"} {
		if text := m.orders(http.MethodGet, kind, "", http.StatusOK); strings.TrimSpace(text) != "[]" {
			m.t.Errorf("GET %s after DELETE: %s", kind, text)
		}
	}
}

// TestIPXE has a machine boot by iPXE's scripts from our export, which lie on any web server. Its image is a chunkfs.
func TestIPXE(t *testing.T) {
	t.Parallel()
	w := free(t)
	store := fmt.Sprintf("/images/store%d", w)
	if err := order(windlass, "image", "build", filepath.Join(vm.Cache(), "debian-rootfs"), "-o", dir+store, "--tag", "debian", "--level", "1"); err != nil {
		t.Fatal(err)
	}
	write(t, fmt.Sprintf("%s/images/chunks%d.json", dir, w), fmt.Sprintf(`{"name":"debian","command":"/sbin/init","systemd":true,"mount":{"kind":"overlay","overlay":{`+
		`"lower":[{"kind":"chunkfs","chunkfs":{"image":"debian","origins":[{"url":%q}]}}],"upper":{"size":134217728}}}}`, w.url()+store))
	s := site{wire: w, mode: "off", words: w.container("chunks")}
	s.serve(t)
	newOrigin(t, w).does(http.FileServer(http.Dir(s.export(t, "ipxe"))))
	w.plainDnsmasq(t, "--dhcp-boot="+w.originURL()+"/boot.ipxe")
	w.on(t, bios, 0).runs("debian")
}
