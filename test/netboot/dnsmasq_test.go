//go:build guest

package netboot

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/test/vm"
)

// TestDnsmasq has machines boot where dnsmasq gives the addresses: alone, as our export has it, with our server for nothing but files over
// HTTP and reports; and plain, with our server beside it, which says what to boot.
func TestDnsmasq(t *testing.T) {
	vm.Slot(t, vm.Config{})
	t.Run("export", func(t *testing.T) {
		s := site{mode: "off", words: container, more: "tftp: {listen: \"off\"}\n"}
		s.serve(t)
		out := filepath.Join(t.TempDir(), "out")
		s.mode = "dhcp"
		cmd := exec.Command(windlass, "netboot", "export", "-f", s.write(t), "--format", "dnsmasq", "--url", webURL, "--to", out)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		dnsmasq(t, "-C", filepath.Join(out, "dnsmasq.conf"))
		on(t, bios, 0).runs("running")
	})
	for _, f := range []firmware{bios, uefiPXE} {
		t.Run("proxy "+f.name, func(t *testing.T) {
			site{mode: "proxy", words: container}.serve(t)
			var hosts []string
			for n := range 2 {
				hosts = append(hosts, fmt.Sprintf("--dhcp-host=52:54:00:77:00:%02d,10.77.0.1%d", n, n))
			}
			dnsmasq(t, append(hosts, "-C", "/dev/null", "--port=0", "--no-ping", "--interface="+wire, "--bind-interfaces", "--dhcp-range=10.77.0.100,10.77.0.120,10m")...)
			on(t, f, 0).runs("running", "script", "kernel", "initramfs")
		})
	}
}

// dnsmasq starts one in the foreground.
func dnsmasq(t *testing.T, args ...string) {
	t.Helper()
	program(t, append([]string{"dnsmasq", "-d", "--log-dhcp", "--user=root", "--pid-file=", "--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases")}, args...)...)
}
