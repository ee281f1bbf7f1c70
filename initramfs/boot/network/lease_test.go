package network

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// short is a lease that is renewed after a second.
func short(seconds uint32) []dhcpv4.Modifier {
	return []dhcpv4.Modifier{dhcpv4.WithLeaseTime(seconds), dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRenewTimeValue, []byte{0, 0, 0, 1}))}
}

// routesOf gives the routes that were made for a device: where to, and by whom.
func routesOf(t *testing.T, name string) (list []string) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	routes, err := netlink.RouteList(l, netlink.FAMILY_V4)
	must(t, err)
	for _, r := range routes {
		if r.Protocol == unix.RTPROT_DHCP {
			list = append(list, r.Dst.String()+" "+r.Gw.String())
		}
	}
	slices.Sort(list)
	return list
}

func TestARenewalWithAnotherAddress(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth40")
	way := func(to, via string) dhcpv4.Modifier {
		_, dst, err := net.ParseCIDR(to)
		must(t, err)
		return dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: dst, Router: net.ParseIP(via)},
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Router: net.ParseIP("10.77.0.1")}))
	}
	s := f.serve(t, "feth40", "10.77.0.1", "10.77.0.9", append(short(8), way("10.90.0.0/16", "10.77.0.3"))...)
	n, said, _ := start(t, "windlass.net=eth40,dhcp")
	settings(t, n)
	within(t, "it has its routes", func() bool {
		return slices.Equal(routesOf(t, "eth40"), []string{"0.0.0.0/0 10.77.0.1", "10.90.0.0/16 10.77.0.3"})
	})
	l, err := netlink.LinkByName("eth40")
	must(t, err)
	floating, err := netlink.ParseAddr("10.77.0.77/24")
	must(t, err)
	must(t, netlink.AddrAdd(l, floating)) // as a container does
	s.set(func() { s.address, s.options = "10.77.0.10", append(short(8), way("10.91.0.0/16", "10.77.0.4")) })
	within(t, "it has the new address alone", func() bool { return has("eth40", "10.77.0.10/24") && !has("eth40", "10.77.0.9/24") })
	within(t, "it has the new routes alone", func() bool {
		return slices.Equal(routesOf(t, "eth40"), []string{"0.0.0.0/0 10.77.0.1", "10.91.0.0/16 10.77.0.4"})
	})
	if !has("eth40", "10.77.0.77/24") {
		t.Error("an address that somebody else added is gone")
	}
	if !strings.Contains(said.text(), "gives 10.77.0.10/24 in place of 10.77.0.9/24") {
		t.Errorf("said %q", said.text())
	}
}

// All that was asked for first is asked for again: a server says no more than that.
func TestARenewalAsksForAllAgain(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth41")
	s := f.serve(t, "feth41", "10.77.0.1", "10.77.0.9", short(8)...)
	n, _, _ := start(t, "windlass.net=eth41,dhcp")
	settings(t, n)
	within(t, "it is renewed", func() bool { return s.count(dhcpv4.MessageTypeRequest) >= 2 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range []dhcpv4.OptionCode{dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers} {
		if !s.wished.Has(o) {
			t.Errorf("%s is not asked for", o)
		}
	}
}

func TestRenewal(t *testing.T) {
	const h = time.Hour
	for _, c := range []struct{ t1, lease, want time.Duration }{
		{0, 8 * h, 4 * h}, {3 * h, 8 * h, 3 * h}, {9 * h, 8 * h, 4 * h}, {(1<<32 - 1) * time.Second, h, h / 2}, {7*h + 1, 8 * h, 4 * h},
		{0, 0, time.Second}, {h, (1<<32 - 1) * time.Second, h}, {0, (1<<32 - 1) * time.Second, (1<<31 - 1) * time.Second},
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			got := renewal(c.t1, c.lease)
			if seen[got] = true; got < max(c.want/10*9-time.Nanosecond, time.Second) || got > c.want/10*11+time.Second {
				t.Fatalf("T1 %s of a lease of %s: renewed after %s, want about %s", c.t1, c.lease, got, c.want)
			}
		}
		if len(seen) < 10 {
			t.Errorf("T1 %s of a lease of %s: all nodes ask at once", c.t1, c.lease)
		}
	}
}

func TestALeaseIsRenewedByAnotherServer(t *testing.T) {
	for name, forgets := range map[string]bool{"that knows it": false, "that does not": true} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.wire(t, "eth42")
			s := f.serve(t, "feth42", "10.77.0.1", "10.77.0.9", short(2)...)
			n, _, _ := start(t, "windlass.net=eth42,dhcp")
			settings(t, n)
			s.set(func() { s.own, s.forgets = "10.77.0.2", forgets })
			within(t, "the other server gives the same", func() bool {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.known["eth42 dhcp4"].From == "10.77.0.2"
			})
			if !has("eth42", "10.77.0.9/24") {
				t.Error("the address is gone")
			}
		})
	}
}

func TestAnAddressThatSomebodyHas(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth43")
	s := f.serve(t, "feth43", "10.77.0.1", "10.77.0.9", options()...)
	s.set(func() { s.next = "10.77.0.10" })
	f.address(t, "feth43", "10.77.0.9/24")
	n, said, _ := start(t, "windlass.net=eth43,dhcp")
	if got := settings(t, n); got.Address.String() != "10.77.0.10/24" {
		t.Errorf("%+v", got)
	}
	if has("eth43", "10.77.0.9/24") || !has("eth43", "10.77.0.10/24") {
		t.Error("it has not the one that is free")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.declined, []string{"10.77.0.9"}) || !strings.Contains(said.text(), "10.77.0.9/24 is used by ") {
		t.Errorf("declined %v, said %q", s.declined, said.text())
	}
}

// One that is slow to answer is heard while the boot goes on.
func TestAnAddressThatSomebodyHasWhoIsSlow(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth44")
	s := f.serve(t, "feth44", "10.77.0.1", "10.77.0.9", options()...)
	s.set(func() { s.next = "10.77.0.10" })
	n, _, _ := start(t, "windlass.net=eth44,dhcp", func(c *Config) { c.Timing.Probe = 10 * time.Second })
	if got := settings(t, n); got.Address.String() != "10.77.0.9/24" {
		t.Errorf("%+v", got)
	}
	f.address(t, "feth44", "10.77.0.9/24")
	within(t, "it has the one that is free alone", func() bool { return has("eth44", "10.77.0.10/24") && !has("eth44", "10.77.0.9/24") })
	within(t, "the route is there again", func() bool { return slices.Equal(routesOf(t, "eth44"), []string{"0.0.0.0/0 10.77.0.1"}) })
}

// Some switches answer for every address; the node must come up all the same.
func TestSomebodyWhoHasEveryAddress(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth45")
	s := f.serve(t, "feth45", "10.77.0.1", "10.77.0.9")
	f.address(t, "feth45", "10.77.0.9/24")
	n, said, _ := start(t, "windlass.net=eth45,dhcp")
	settings(t, n)
	within(t, "it is told", func() bool { return strings.Contains(said.text(), "it is taken all the same") })
	if s.count(dhcpv4.MessageTypeDecline) != maxDeclined || !has("eth45", "10.77.0.9/24") {
		t.Errorf("declined %d times", s.count(dhcpv4.MessageTypeDecline))
	}
}

// The kernel answers on each device for the addresses of all: a node with two in one network has not two owners of an address.
func TestTheNodeIsNotSomebodyElse(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth46")
	f.wire(t, "eth47")
	f.bridge(t, "feth46", "feth47")
	s := f.serve(t, "fbr", "10.77.0.1", "10.77.0.9")
	n, said, _ := start(t, "windlass.net=eth46,dhcp windlass.net=eth47,10.77.0.9/24")
	within(t, "both have it", func() bool { return has("eth47", "10.77.0.9/24") && has("eth46", "10.77.0.9/24") })
	settings(t, n)
	l, err := netlink.LinkByName("eth46")
	must(t, err)
	d := newDevice(n, l, n.cfg.Links[0])
	must(t, d.dropAddress(netip.MustParsePrefix("10.77.0.9/24")))
	select {
	case who := <-d.others(t.Context(), netip.MustParseAddr("10.77.0.9")):
		t.Errorf("%s is somebody else", who)
	case <-time.After(time.Second):
	}
	if s.count(dhcpv4.MessageTypeDecline) != 0 {
		t.Errorf("it declined its own address; said %q", said.text())
	}
}

// A process that takes over asks for the address that is there, and does not look whether somebody has it.
func TestTheNextProcessKeepsTheAddress(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth48")
	s := f.serve(t, "feth48", "10.77.0.1", "10.77.0.9")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := &lines{t: t}
	first, err := Start(ctx, Config{Say: said.say})
	must(t, err)
	settings(t, first)
	cancel()
	n, _, _ := start(t, "windlass.net=eth48,dhcp")
	settings(t, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.requested[len(s.requested)-1]; last != "10.77.0.9" {
		t.Errorf("it asked for %s", last)
	}
}

func FuzzARP(f *testing.F) {
	ip := netip.MustParseAddr("10.0.0.9")
	f.Add(arpProbe(net.HardwareAddr{2, 0, 0, 0, 0, 1}, ip))
	answer := arpProbe(net.HardwareAddr{2, 0, 0, 0, 0, 1}, ip)
	copy(answer[28:], ip.AsSlice())
	if arpOwner(answer, ip) == nil || arpOwner(arpProbe(net.HardwareAddr{2, 0, 0, 0, 0, 1}, ip), ip) != nil {
		f.Fatal("who has an address is not told from who asks for it")
	}
	f.Add(answer)
	f.Fuzz(func(t *testing.T, b []byte) {
		if who := arpOwner(b, ip); who != nil && len(who) != 6 {
			t.Errorf("%v", who)
		}
	})
}
