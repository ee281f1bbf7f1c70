//go:build guest

package netboot

import (
	"path/filepath"
	"testing"
)

// way is how a machine boots, and the container that comes of it.
type way struct {
	firmware
	container string
}

// TestProxy has machines boot where plain dnsmasq gives the addresses, and our server beside it says what to boot.
func TestProxy(t *testing.T) {
	t.Parallel()
	for _, way := range []way{{bios, "debian"}, {uefiROM, "small"}, {uefiPXE, "small"}, {uefiHTTP, "small"}} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			w := free(t)
			site{wire: w, mode: "proxy", words: w.container(way.container)}.serve(t)
			w.plainDnsmasq(t)
			w.on(t, way.firmware, 0).runs(way.container, "script", "kernel", "initramfs")
		})
	}
}

// TestDnsmasq has machines boot from dnsmasq alone, as our export has it; our server gives files over HTTP, and takes reports.
func TestDnsmasq(t *testing.T) {
	t.Parallel()
	for _, way := range []way{{bios, "debian"}, {uefiPXE, "small"}, {uefiHTTP, "small"}} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			w := free(t)
			s := site{wire: w, mode: "off", words: w.container(way.container)}
			s.serve(t)
			dnsmasq(t, "-C", filepath.Join(s.export(t, "dnsmasq"), "dnsmasq.conf"))
			w.on(t, way.firmware, 0).runs(way.container)
		})
	}
}
