package network

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
)

// bootif is what a boot loader says of a device.
func bootif(t *testing.T, name string) string {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	return " BOOTIF=01-" + strings.ReplaceAll(l.Attrs().HardwareAddr.String(), ":", "-")
}

// patient waits long for the device that the node booted from.
func patient(c *Config) { c.Timing.Boot = time.Hour }

// lease is what a server says with a name of its own.
func lease(net3, host string) []dhcpv4.Modifier {
	return []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptRouter(net.ParseIP(net3 + "1"))), dhcpv4.WithOption(dhcpv4.OptHostName(host)),
		dhcpv4.WithOption(dhcpv4.OptDNS(net.ParseIP(net3 + "53"))), dhcpv4.WithOption(dhcpv4.OptNTPServers(net.ParseIP(net3 + "123")))}
}

// A device of the board's own computer gives an address at once; the one that the node booted from takes until its switch is ready.
func TestTheDeviceThatTheNodeBootedFromCounts(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth50")
	f.wire(t, "eth51")
	f.down(t, "feth51")
	f.serve(t, "feth50", "10.50.0.1", "10.50.0.9", lease("10.50.0.", "bmc")...)
	n, _, resolv := start(t, bootif(t, "eth51"), patient)
	within(t, "the other device has its address", func() bool { return has("eth50", "10.50.0.9/24") })
	f.serve(t, "feth51", "10.51.0.1", "10.51.0.9", lease("10.51.0.", "node51")...)
	f.up(t, "feth51")
	s := settings(t, n)
	if s.Device != "eth51" || s.Hostname != "node51" || !slices.Equal(s.NTP, []string{"10.51.0.123", "10.50.0.123"}) {
		t.Errorf("%+v", s)
	}
	if r, err := netlink.RouteGet(net.ParseIP("192.0.2.1")); err != nil || len(r) == 0 || r[0].Gw.String() != "10.51.0.1" {
		t.Errorf("route %v, %v", r, err)
	}
	text, err := os.ReadFile(resolv)
	if err != nil || !strings.Contains(string(text), "\nnameserver 10.51.0.53\nnameserver 10.50.0.53\n") {
		t.Errorf("resolv.conf: %v\n%s", err, text)
	}
}

func TestTheDeviceThatTheNodeBootedFromIsNotWaitedForLong(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth52")
	f.wire(t, "eth53")
	f.serve(t, "feth52", "10.52.0.1", "10.52.0.9")
	n, said, _ := start(t, bootif(t, "eth53"), func(c *Config) { c.Timing.Boot = time.Second })
	if s := settings(t, n); s.Device != "eth52" {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(said.text(), "eth52: eth53, which the node booted from, is waited for, 1 s at most\n") {
		t.Errorf("said %q", said.text())
	}
}

// Nothing is waited for that does not come.
func TestNoDeviceThatTheNodeBootedFrom(t *testing.T) {
	for name, c := range map[string]struct{ line, boot string }{
		"it is another":              {"", "BOOTIF=01-52-54-00-aa-bb-cc"},
		"it is the one":              {"", "eth54"},
		"it has no address":          {"windlass.net=eth54,dhcp windlass.net=eth55,none", "eth55"},
		"it is left alone":           {"windlass.net=eth54,dhcp", "eth55"},
		"it leads nowhere, as is so": {"windlass.net=eth54,dhcp windlass.net=eth55,10.55.0.2/24", "eth55"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.wire(t, "eth54")
			f.wire(t, "eth55")
			f.serve(t, "feth54", "10.54.0.1", "10.54.0.9")
			boot := c.boot
			if !strings.Contains(boot, "=") {
				boot = bootif(t, boot)
			}
			n, _, _ := start(t, strings.TrimSpace(c.line+" "+boot), patient)
			if s := settings(t, n); s.Device != "eth54" {
				t.Errorf("%+v", s)
			}
		})
	}
}

// What is made of the device that the node booted from stands for it.
func TestABondOfTheDeviceThatTheNodeBootedFrom(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth56")
	for line, want := range map[string][]string{
		"windlass.net=bond0,dhcp,bond=eth56+eth57":                                                              {"bond0"},
		"windlass.net=bond0,none,bond=eth57+eth56 windlass.net=bond0.5,dhcp windlass.net=bond1,dhcp,bond=eth58": {"bond0.5"},
		"windlass.net=eth56.7,dhcp windlass.net=eth57.7,dhcp":                                                   {"eth56.7"},
		"windlass.net=eth56,dhcp windlass.net=eth56.7,dhcp":                                                     {"eth56", "eth56.7"},
	} {
		n, _, _ := start(t, line+bootif(t, "eth56"))
		if got := n.bootDevices(); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
