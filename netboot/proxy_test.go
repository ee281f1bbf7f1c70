package netboot

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// proxyOffers asks as UEFI does: both servers answer its DISCOVER, and ours the second question on port 4011. offered is the boot program in
// the proxy's first answer.
func (n *node) proxyOffers(t *testing.T, offered string) {
	t.Helper()
	mods := []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016")), dhcpv4.WithOption(dhcpv4.OptClientArch(7)),
		dhcpv4.WithBroadcast(true)}
	m, err := dhcpv4.NewDiscovery(n.hw, mods...)
	must(t, err)
	conn := n.port68(t)
	offers := n.gather(t, conn, m, &net.UDPAddr{IP: net.IPv4bcast, Port: 67}, 2)
	var ours, theirs *dhcpv4.DHCPv4
	for _, o := range offers {
		if o.YourIPAddr.IsUnspecified() {
			ours = o
		} else {
			theirs = o
		}
	}
	if ours == nil || theirs == nil {
		t.Fatalf("%d offers came: %v", len(offers), offers)
	}
	if ours.ClassIdentifier() != "PXEClient" || ours.BootFileName != offered || ours.ServerIPAddr.String() != serverAddr || theirs.BootFileName != "" {
		t.Errorf("offered were\n%s\n%s", ours.Summary(), theirs.Summary())
	}
	n.address(t, theirs.YourIPAddr.String())
	q, err := dhcpv4.New(append(mods, dhcpv4.WithHwAddr(n.hw), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(theirs.YourIPAddr))...)
	must(t, err)
	acks := n.gather(t, conn, q, &net.UDPAddr{IP: net.ParseIP(serverAddr), Port: 4011}, 1)
	if len(acks) != 1 || acks[0].MessageType() != dhcpv4.MessageTypeAck || acks[0].BootFileName != "ipxe.efi" || !acks[0].YourIPAddr.IsUnspecified() {
		t.Errorf("port 4011 answered %v", acks)
	}
}

// gather sends a message until count different servers or more answered it.
func (n *node) gather(t *testing.T, conn *net.UDPConn, m *dhcpv4.DHCPv4, to *net.UDPAddr, count int) []*dhcpv4.DHCPv4 {
	t.Helper()
	var got []*dhcpv4.DHCPv4
	buf := make([]byte, 1500)
	for range 10 {
		_, err := conn.WriteTo(m.ToBytes(), to)
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(2*time.Second)))
		for len(got) < count {
			k, err := conn.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			must(t, err)
			r, err := dhcpv4.FromBytes(buf[:k])
			must(t, err)
			if r.TransactionID == m.TransactionID && r.OpCode == dhcpv4.OpcodeBootReply {
				got = append(got, r)
			}
		}
		if len(got) >= count {
			break
		}
		got = nil
	}
	return got
}
