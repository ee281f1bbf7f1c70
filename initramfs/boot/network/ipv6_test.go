package network

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/server6"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv6"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// announce sends router advertisements (RFC 4861, 4.2) until the test ends.
func (f *far) announce(t *testing.T, dev, prefix string, dns ...string) {
	t.Helper()
	f.address(t, dev, "fe80::1/64")
	b := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	if prefix != "" {
		a := netip.MustParseAddr(prefix).As16()
		b = append(b, 3, 4, 64, 0xc0)
		b = binary.BigEndian.AppendUint32(b, 3600)
		b = binary.BigEndian.AppendUint32(b, 3600)
		b = append(append(b, 0, 0, 0, 0), a[:]...)
	}
	if len(dns) > 0 {
		b = append(b, 25, byte(1+2*len(dns)), 0, 0, 0, 0, 14, 16)
		for _, one := range dns {
			a := netip.MustParseAddr(one).As16()
			b = append(b, a[:]...)
		}
		b = append(b, 31, 3, 0, 0, 0, 0, 14, 16, 3, 'l', 'a', 'b', 7, 'e', 'x', 'a', 'm', 'p', 'l', 'e', 0, 0, 0, 0)
	}
	var conn net.PacketConn
	var err error
	f.do(func() { conn, err = net.ListenPacket("ip6:ipv6-icmp", "fe80::1%"+dev) })
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	p := ipv6.NewPacketConn(conn)
	must(t, p.SetMulticastHopLimit(255))
	go func() {
		for t.Context().Err() == nil {
			_, _ = conn.WriteTo(b, &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: dev})
			time.Sleep(100 * time.Millisecond)
		}
	}()
}

func TestAnAddressFromARouter(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth20")
	f.announce(t, "feth20", "fd20::", "fd20::53")
	n, _, resolv := start(t, "") // there is no DHCP server: after a while IPv6 is enough
	s := settings(t, n)
	if !netip.MustParsePrefix("fd20::/64").Contains(s.Address.Addr()) || s.From != "a router" {
		t.Errorf("%+v", s)
	}
	within(t, "the name server is known", func() bool {
		text, err := os.ReadFile(resolv)
		return err == nil && strings.Contains(string(text), "nameserver fd20::53\nsearch lab.example\n")
	})
}

// serve6 answers DHCPv6.
func (f *far) serve6(t *testing.T, dev string, addresses ...string) <-chan dhcpv6.MessageType {
	t.Helper()
	var renewed atomic.Int32 // the last address is given from then on
	asked := make(chan dhcpv6.MessageType, 100)
	id := dhcpv6.WithServerID(&dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
	var srv *server6.Server
	var err error
	f.do(func() {
		srv, err = server6.NewServer(dev, nil, func(conn net.PacketConn, peer net.Addr, m dhcpv6.DHCPv6) {
			msg, ok := m.(*dhcpv6.Message)
			if !ok || msg.Options.OneIANA() == nil {
				return
			}
			if _, ok := msg.Options.ClientID().(*dhcpv6.DUIDLL); !ok {
				t.Errorf("the server would not know the node again by %s", msg.Options.ClientID())
			}
			asked <- msg.Type()
			if msg.Type() == dhcpv6.MessageTypeRenew {
				renewed.Add(1)
			}
			address := addresses[min(int(renewed.Load()), len(addresses)-1)]
			lease := []dhcpv6.Modifier{id, dhcpv6.WithIAID(msg.Options.OneIANA().IaId), dhcpv6.WithDNS(net.ParseIP("fd21::53")), dhcpv6.WithIANA(dhcpv6.OptIAAddress{
				IPv6Addr: net.ParseIP(address), PreferredLifetime: 2 * time.Second, ValidLifetime: time.Hour})}
			reply := dhcpv6.NewReplyFromMessage
			if msg.Type() == dhcpv6.MessageTypeSolicit {
				reply = dhcpv6.NewAdvertiseFromSolicit
			}
			r, err := reply(msg, lease...)
			if err != nil {
				t.Log(err)
				return
			}
			_, _ = conn.WriteTo(r.ToBytes(), peer)
		})
	})
	must(t, err)
	go func() { _ = srv.Serve() }()
	t.Cleanup(func() { _ = srv.Close() })
	return asked
}

func TestDHCPv6(t *testing.T) {
	for name, line := range map[string]string{"asked for": "windlass.net=eth21,dhcp6", "because the router gives no addresses": ""} {
		t.Run(name, func(t *testing.T) {
			f := newFar(t)
			f.wire(t, "eth21")
			f.announce(t, "feth21", "")
			asked := f.serve6(t, "feth21", "fd21::9")
			n, _, resolv := start(t, line)
			if s := settings(t, n); s.Address.String() != "fd21::9/128" || s.From != "a DHCPv6 server" {
				t.Errorf("%+v", s)
			}
			if text, err := os.ReadFile(resolv); err != nil || !strings.Contains(string(text), "nameserver fd21::53\n") {
				t.Errorf("%v %s", err, text)
			}
			for _, want := range []dhcpv6.MessageType{dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew} {
				select {
				case got := <-asked:
					if got != want {
						t.Errorf("asked %s, want %s", got, want)
					}
				case <-time.After(20 * time.Second):
					t.Fatalf("nobody asked %s", want)
				}
			}
		})
	}
}

// An address that the server does not give any more is not the node's, RFC 8415, 18.2.10.1.
func TestDHCPv6GivesAnother(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth22")
	f.announce(t, "feth22", "")
	f.serve6(t, "feth22", "fd22::9", "fd22::10")
	n, said, _ := start(t, "windlass.net=eth22,dhcp6")
	settings(t, n)
	within(t, "it has the new one alone", func() bool { return has("eth22", "fd22::10/128") && !has("eth22", "fd22::9/128") })
	if !strings.Contains(said.text(), "gives fd22::10/128 in place of fd22::9/128") {
		t.Errorf("said %q", said.text())
	}
}

func TestWhenDHCPv6IsRenewed(t *testing.T) {
	for _, c := range []struct{ t1, preferred, valid, want time.Duration }{
		{0, 4 * time.Hour, 8 * time.Hour, 2 * time.Hour}, {time.Hour, 4 * time.Hour, 8 * time.Hour, time.Hour},
		{(1<<32 - 1) * time.Second, 4 * time.Hour, 8 * time.Hour, 2 * time.Hour}, {0, 0, 8 * time.Hour, 4 * time.Hour},
	} {
		m, err := dhcpv6.NewMessage(dhcpv6.WithIANA(dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("fd22::9"), PreferredLifetime: c.preferred, ValidLifetime: c.valid}))
		must(t, err)
		m.Options.OneIANA().T1 = c.t1
		if _, got, err := address6(m); err != nil || got < c.want/10*9 || got > c.want/10*11 {
			t.Errorf("%+v: renewed after %s, %v", c, got, err)
		}
	}
}

func FuzzUserOption(f *testing.F) {
	f.Add([]byte{10, 0, 24, 0, 1, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0, 25, 3, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	f.Add([]byte{10, 0, 24, 0, 1, 0, 0, 0, 134, 0, 0, 0, 0, 0, 0, 0, 31, 2, 0, 0, 0, 0, 0, 9, 3, 'a', 'b', 'c', 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { userOption(b) })
}

// A container that forwards packets, as those that hold others do, must not cost the node its routers.
func TestARouterIsKeptWhenTheNodeForwards(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth23")
	f.announce(t, "feth23", "fd23::")
	n, _, _ := start(t, bootif(t, "eth23"))
	settings(t, n)
	const forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"
	must(t, os.WriteFile(forwarding, []byte("1"), 0))
	t.Cleanup(func() { must(t, os.WriteFile(forwarding, []byte("0"), 0)) })
	r, err := netlink.RouteGet(net.ParseIP("2001:db8::1"))
	if err != nil || len(r) == 0 || r[0].Gw.String() != "fe80::1" {
		t.Errorf("%v, %v", r, err)
	}
	l, err := netlink.LinkByName("eth23")
	must(t, err)
	routes, err := netlink.RouteList(l, netlink.FAMILY_V6)
	must(t, err)
	if !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Gw.String() == "fe80::1" && r.Priority == metric }) {
		t.Errorf("the router of the device that the node booted from is not preferred: %v", routes)
	}
}

// A process that takes over finds the device up, with addresses of which the kernel says nothing new.
func TestTheNextProcessKnowsTheAddressesThatAreThere(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth26")
	f.serve6(t, "feth26", "fd26::9")
	f.address(t, "feth26", "fe80::1/64")
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		said := &lines{t: t}
		n, err := Start(ctx, Config{Links: []cmdline.Link{{Device: "eth26", Method: cmdline.DHCP6}}, Say: said.say})
		must(t, err)
		wait, done := context.WithTimeout(ctx, 20*time.Second)
		defer done()
		if _, err := n.Wait(wait); err != nil {
			t.Fatalf("process %d: %v; said %q", i, err, said.text())
		}
		cancel()
	}
}
