package network

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
)

func options() []dhcpv4.Modifier {
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptRouter(net.ParseIP("10.77.0.1"))), dhcpv4.WithOption(dhcpv4.OptDNS(net.ParseIP("10.77.0.53"))),
		dhcpv4.WithOption(dhcpv4.OptHostName("node7")), dhcpv4.WithOption(dhcpv4.OptNTPServers(net.ParseIP("10.77.0.123"))),
		dhcpv4.WithOption(dhcpv4.OptDomainName("cluster.example")), dhcpv4.WithLeaseTime(3600),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x05, 0x78})),
	}
}

func TestTheFirstDeviceWithALeaseIsEnough(t *testing.T) {
	f := newFar(t)
	f.wire(t, "silent")
	f.wire(t, "eth7")
	f.serve(t, "feth7", "10.77.0.1", "10.77.0.9", options()...)
	n, said, resolv := start(t, "")
	s := settings(t, n)
	if s.Device != "eth7" || s.Address.String() != "10.77.0.9/24" || s.From != "10.77.0.1" || s.Hostname != "node7" || len(s.NTP) != 1 || s.NTP[0] != "10.77.0.123" {
		t.Errorf("%+v", s)
	}
	if !has("eth7", "10.77.0.9/24") {
		t.Error("the device has not the address")
	}
	l, err := netlink.LinkByName("eth7")
	must(t, err)
	if l.Attrs().MTU != 1400 {
		t.Errorf("MTU %d", l.Attrs().MTU)
	}
	if n.MAC().String() != l.Attrs().HardwareAddr.String() {
		t.Errorf("MAC %s", n.MAC())
	}
	routes, err := netlink.RouteGet(net.ParseIP("192.0.2.1"))
	if err != nil || len(routes) == 0 || routes[0].Gw.String() != "10.77.0.1" {
		t.Errorf("route %v, %v", routes, err)
	}
	text, err := os.ReadFile(resolv)
	if err != nil || !strings.Contains(string(text), "nameserver 10.77.0.53\n") || !strings.Contains(string(text), "search cluster.example\n") {
		t.Errorf("resolv.conf: %v\n%s", err, text)
	}
	if !strings.Contains(said.text(), "eth7: 10.77.0.9/24 from 10.77.0.1\n") {
		t.Errorf("said %q", said.text())
	}
	// The other goes on trying, and has it when somebody answers.
	within(t, "the silent device is tried on", func() bool { return strings.Contains(said.text(), "silent: DHCP, round 2: no server answers") })
	f.serve(t, "fsilent", "10.78.0.1", "10.78.0.9")
	within(t, "it has its address", func() bool { return has("silent", "10.78.0.9/24") })
}

func TestALateLinkAndALateServer(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth8")
	f.down(t, "feth8")
	n, said, _ := start(t, "windlass.net=eth8,dhcp")
	within(t, "it is told that there is no link", func() bool { return strings.Contains(said.text(), "none of 1 devices has a link") })
	f.up(t, "feth8")
	within(t, "there is a link", func() bool { return strings.Contains(said.text(), "eth8: has a link") })
	within(t, "it asks in vain", func() bool { return strings.Contains(said.text(), "round 3: no server answers") })
	f.serve(t, "feth8", "10.77.0.1", "10.77.0.9")
	if s := settings(t, n); s.Address.String() != "10.77.0.9/24" {
		t.Errorf("%+v", s)
	}
}

func TestADeviceThatComesLater(t *testing.T) {
	n, said, _ := start(t, "")
	within(t, "it is told that there is no device", func() bool { return strings.Contains(said.text(), "there is no device") })
	f := newFar(t)
	f.wire(t, "late0")
	f.serve(t, "flate0", "10.77.0.1", "10.77.0.9")
	if s := settings(t, n); s.Device != "late0" {
		t.Errorf("%+v", s)
	}
}

func TestStatic(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth9")
	n, _, resolv := start(t, "windlass.net=eth9,10.79.0.2/24,fd79::2/64,gw=10.79.0.1+fd79::1,dns=10.79.0.53,search=a.example,mtu=1300,route=10.80.0.0/16@10.79.0.9,ntp=10.79.0.3")
	s := settings(t, n)
	if s.Address.String() != "10.79.0.2/24" || s.From != "the command line" || s.NTP[0] != "10.79.0.3" || !has("eth9", "fd79::2/64") {
		t.Errorf("%+v", s)
	}
	for to, want := range map[string]string{"192.0.2.1": "10.79.0.1", "10.80.1.1": "10.79.0.9", "2001:db8::1": "fd79::1"} {
		if r, err := netlink.RouteGet(net.ParseIP(to)); err != nil || len(r) == 0 || r[0].Gw.String() != want {
			t.Errorf("to %s: %v, %v; want %s", to, r, err, want)
		}
	}
	if text, err := os.ReadFile(resolv); err != nil || !strings.Contains(string(text), "nameserver 10.79.0.53\nsearch a.example\n") {
		t.Errorf("%v %s", err, text)
	}
	if l, err := netlink.LinkByName("eth9"); err != nil || l.Attrs().MTU != 1300 {
		t.Errorf("%v %v", l, err)
	}
}

func TestVLAN(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth10")
	var err error
	f.do(func() {
		parent, _ := netlink.LinkByName("feth10")
		err = netlink.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "far5", ParentIndex: parent.Attrs().Index}, VlanId: 5})
	})
	if err != nil {
		t.Skipf("THIS KERNEL HAS NO VLANs: %v", err)
	}
	f.up(t, "far5")
	f.serve(t, "far5", "10.77.0.1", "10.77.0.9")
	n, _, _ := start(t, "windlass.net=eth10.5,dhcp")
	if s := settings(t, n); s.Device != "eth10.5" || !has("eth10.5", "10.77.0.9/24") {
		t.Errorf("%+v", s)
	}
}

func TestBond(t *testing.T) {
	probe := netlink.NewLinkBond(netlink.LinkAttrs{Name: "probe"})
	if err := netlink.LinkAdd(probe); err != nil {
		t.Skipf("THIS KERNEL HAS NO BONDS: %v", err)
	}
	must(t, netlink.LinkDel(probe))
	f := newFar(t)
	f.wire(t, "eth11")
	f.wire(t, "eth12")
	f.serve(t, "feth11", "10.77.0.1", "10.77.0.9")
	n, _, _ := start(t, "windlass.net=bond7,dhcp,bond=eth11+eth12")
	t.Cleanup(func() {
		if l, err := netlink.LinkByName("bond7"); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	if s := settings(t, n); s.Device != "bond7" || !has("bond7", "10.77.0.9/24") {
		t.Errorf("%+v", s)
	}
	b, err := netlink.LinkByName("bond7")
	must(t, err)
	for _, name := range []string{"eth11", "eth12"} {
		within(t, name+" joins", func() bool {
			l, err := netlink.LinkByName(name)
			return err == nil && l.Attrs().MasterIndex == b.Attrs().Index
		})
	}
}

func TestALeaseIsRenewedAndTakenAway(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth13")
	s := f.serve(t, "feth13", "10.77.0.1", "10.77.0.9", dhcpv4.WithLeaseTime(4), dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRenewTimeValue, []byte{0, 0, 0, 1})))
	n, said, _ := start(t, "windlass.net=eth13,dhcp")
	settings(t, n)
	within(t, "it is renewed twice", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.asked[dhcpv4.MessageTypeRequest] >= 3 })
	s.mu.Lock()
	s.nak, s.address = true, "10.77.0.10"
	s.mu.Unlock()
	within(t, "it has the new address", func() bool { return has("eth13", "10.77.0.10/24") && !has("eth13", "10.77.0.9/24") })
	if !strings.Contains(said.text(), "takes 10.77.0.9/24 away") {
		t.Errorf("said %q", said.text())
	}
}

func TestAnAddressIsKeptWhenTheServerIsGone(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth14")
	f.serve(t, "feth14", "10.77.0.1", "10.77.0.9", dhcpv4.WithLeaseTime(2))
	n, said, _ := start(t, "windlass.net=eth14,dhcp")
	settings(t, n)
	f.down(t, "feth14")
	within(t, "it is told", func() bool { return strings.Contains(said.text(), "has run out") })
	if !has("eth14", "10.77.0.9/24") {
		t.Error("the address has been taken away")
	}
}

func TestWhatAServerSendsIsNotBelieved(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth15")
	s := f.serve(t, "feth15", "10.77.0.1", "0.0.0.0",
		dhcpv4.WithOption(dhcpv4.OptHostName("x\ny")), dhcpv4.WithOption(dhcpv4.OptDomainName("a.example\nnameserver 6.6.6.6")),
		dhcpv4.WithOption(dhcpv4.OptDNS(net.ParseIP("10.77.0.53"), net.ParseIP("0.0.0.0"))),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 10})))
	n, said, resolv := start(t, "windlass.net=eth15,dhcp")
	within(t, "an answer without an address is none", func() bool { return strings.Contains(said.text(), "gives no address") })
	s.mu.Lock()
	s.address = "10.77.0.9"
	s.mu.Unlock()
	if got := settings(t, n); got.Hostname != "" || got.Address.String() != "10.77.0.9/24" {
		t.Errorf("%+v", got)
	}
	text, err := os.ReadFile(resolv)
	must(t, err)
	if strings.Contains(string(text), "6.6.6.6") || strings.Contains(string(text), "0.0.0.0") {
		t.Errorf("resolv.conf:\n%s", text)
	}
	if l, err := netlink.LinkByName("eth15"); err != nil || l.Attrs().MTU != 1500 {
		t.Errorf("%v %v", l, err)
	}
}

func TestTheNameIsTold(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth16")
	f.serve(t, "feth16", "10.77.0.1", "10.77.0.9")
	n, _, _ := start(t, "windlass.net=eth16,dhcp windlass.hostname=n16 BOOTIF=01-52-54-00-aa-bb-cc")
	settings(t, n)
	if n.MAC().String() != "52:54:00:aa:bb:cc" {
		t.Errorf("MAC %s, not that of the boot loader", n.MAC())
	}
}

func TestADeviceThatLeadsNowhereIsNotEnough(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth17")
	f.wire(t, "eth18")
	n, _, _ := start(t, "windlass.net=eth17,10.7.0.2/24 windlass.net=eth18,dhcp")
	within(t, "the first has its address", func() bool { return has("eth17", "10.7.0.2/24") })
	f.serve(t, "feth18", "10.77.0.1", "10.77.0.9")
	if s := settings(t, n); s.Device != "eth18" {
		t.Errorf("%+v", s)
	}
}

// A device without a DHCP server must not fill console and log for as long as the node runs.
func TestASilentDeviceIsToldSeldomWhenTheBootGoesOn(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth24")
	f.wire(t, "eth25")
	n, said, _ := start(t, "windlass.net=eth24,10.24.0.2/24,gw=10.24.0.1 windlass.net=eth25,dhcp", func(c *Config) {
		c.Timing.Answer, c.Timing.Pause, c.Timing.Longest = 10*time.Millisecond, 10*time.Millisecond, 10*time.Millisecond
	})
	settings(t, n)
	within(t, "it is tried on", func() bool { return strings.Contains(said.text(), "eth25: DHCP, round 64: no server answers") })
	for _, round := range []string{"33", "50", "63"} {
		if strings.Contains(said.text(), "round "+round) {
			t.Errorf("round %s is told", round)
		}
	}
}
