package netboot

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// obtain has a made-up node go through DISCOVER and REQUEST; nil when the server is gone.
func obtain(t *testing.T, conn *net.UDPConn, hw net.HardwareAddr) net.IP {
	t.Helper()
	d, err := dhcpv4.NewDiscovery(hw, dhcpv4.WithBroadcast(true))
	must(t, err)
	offer := exchange(t, conn, d)
	if offer == nil {
		return nil
	}
	r, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithBroadcast(true))
	must(t, err)
	ack := exchange(t, conn, r)
	if ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck {
		return nil
	}
	return ack.YourIPAddr
}

// exchange broadcasts a message and gives the answer; nil when none comes.
func exchange(t *testing.T, conn *net.UDPConn, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	t.Helper()
	_, err := conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 67})
	must(t, err)
	must(t, conn.SetReadDeadline(time.Now().Add(2*time.Second)))
	buf := make([]byte, 1500)
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		must(t, err)
		if r, err := dhcpv4.FromBytes(buf[:n]); err == nil && r.TransactionID == m.TransactionID {
			return r
		}
	}
}

// Whatever moment the server is killed at, what a node was told holds: its address is its own, and it gets it again.
func TestKilledAgainAndAgainNoAddressIsGivenTwice(t *testing.T) {
	b := newBench(t)
	config := b.site(t, "dhcp", "10.1.0.100-10.1.0.140", "unknown: default-group\ndefault_group: compute\n")
	n := b.node(t, "x", "52:54:00:00:00:99")
	conn := n.port68(t)
	has, owner := map[string]string{}, map[string]string{}
	for round := range 6 {
		s := b.serve(t, config)
		for i := range 40 {
			if i == 3+4*round { // while more is asked for
				go s.cmd.Process.Signal(syscall.SIGKILL)
			}
			hw := net.HardwareAddr{2, 0, 0, 0, 0, byte((i + 6*round) % 40)}
			ip := obtain(t, conn, hw)
			if ip == nil {
				break
			}
			mac := hw.String()
			if was := has[mac]; was != "" && was != ip.String() {
				t.Errorf("round %d: %s had %s and got %s", round, mac, was, ip)
			}
			if other := owner[ip.String()]; other != "" && other != mac {
				t.Errorf("round %d: %s was given to %s and to %s", round, ip, other, mac)
			}
			has[mac], owner[ip.String()] = ip.String(), mac
		}
		s.cmd.Wait()
		<-s.done
	}
	s := b.serve(t, config)
	if len(has) < 5 {
		t.Errorf("only %d nodes got an address before the server was killed", len(has))
	}
	s.log.wait(t, "netboot is ready", "leases=")
	for mac, ip := range has {
		hw, _ := net.ParseMAC(mac)
		if got := obtain(t, conn, hw); got.String() != ip {
			t.Errorf("in the end %s had %s and got %s", mac, ip, got)
		}
	}
}
