package netboot

import (
	"bytes"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
)

func TestEmptyRouterAdvertisement(t *testing.T) {
	b := newBench(t)
	config := b.site(t, "dhcp", "10.1.0.100", "")
	text, err := os.ReadFile(config)
	must(t, err)
	must(t, os.WriteFile(config, bytes.Replace(text, []byte("mode: dhcp}"), []byte("mode: dhcp, empty_ra: true}"), 1), 0o644))
	s := b.serve(t, config)
	if n1 := b.node(t, "n1", "52:54:00:00:00:01"); !n1.advertised(t) {
		t.Error("no advertisement came")
	}
	// the same once the interface was made anew
	run(t, "ip", "link", "del", b.bridge)
	s.log.wait(t, "level=warning", "empty router advertisements have stopped")
	run(t, "ip", "link", "add", b.bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0")
	run(t, "ip", "address", "add", serverAddr+"/24", "dev", b.bridge)
	run(t, "ip", "link", "set", b.bridge, "up")
	s.log.wait(t, "level=info", "empty router advertisements are sent again")
	if n2 := b.node(t, "n2", "52:54:00:00:00:02"); !n2.advertised(t) {
		t.Error("no advertisement came once the interface was back")
	}
}

// advertised asks as iPXE does, and reports whether an answer came that is right.
func (n *node) advertised(t *testing.T) bool {
	t.Helper()
	var p *ipv6.PacketConn
	var dev *net.Interface
	n.inside(t, func() error {
		conn, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() })
		p = conn.IPv6PacketConn()
		dev, err = net.InterfaceByName("eth0")
		return err
	})
	var f ipv6.ICMPFilter
	f.SetAll(true)
	f.Accept(ipv6.ICMPTypeRouterAdvertisement)
	must(t, p.SetICMPFilter(&f))
	must(t, p.SetMulticastHopLimit(255))
	must(t, p.SetControlMessage(ipv6.FlagHopLimit, true))
	rs, err := (&icmp.Message{Type: ipv6.ICMPTypeRouterSolicitation, Body: &icmp.RawBody{Data: make([]byte, 4)}}).Marshal(nil)
	must(t, err)
	buf := make([]byte, 1500)
	for range 20 { // the link-local addresses have to settle first
		p.WriteTo(rs, &ipv6.ControlMessage{IfIndex: dev.Index}, &net.IPAddr{IP: net.ParseIP("ff02::2"), Zone: "eth0"})
		must(t, p.SetReadDeadline(time.Now().Add(time.Second)))
		k, cm, _, err := p.ReadFrom(buf)
		if err != nil {
			continue
		}
		if m := buf[:k]; cm.HopLimit != 255 || m[0] != 134 || m[6] != 0 || m[7] != 0 || k != 24 {
			t.Errorf("hop limit %d, advertisement % x", cm.HopLimit, m)
		}
		return true
	}
	return false
}
