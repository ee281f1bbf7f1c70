// Package dhcp answers DHCP requests of nodes: with addresses, with what to boot, or, beside another server, with what to boot alone.
//
// The handler is a function from a packet to an answer and is tried with hostile packets; the wire around it owns the sockets. Requests come
// from anybody: nothing of them is kept but MACs, addresses and the platform, and all that is kept is bounded.
package dhcp

import (
	"net"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/lease"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// The ports of DHCP and of the second question of PXE.
const (
	ServerPort = 67
	ClientPort = 68
	PXEPort    = 4011
)

// Meter counts what happens. Its labels are of a fixed set.
type Meter interface {
	// Message counts a message of a type, such as DISCOVER, that was answered by another, or by "" when it was not.
	Message(wire, asked, answered string)
	// Dropped counts a packet that came to nothing, by the reason.
	Dropped(wire, reason string)
	// OtherServer counts a message that shows that another server gives addresses.
	OtherServer(wire string)
}

// Options are what a Handler works with.
type Options struct {
	Site   *config.Config
	Leases *lease.Table
	Nodes  *nodes.Registry
	// Node says what a MAC boots as, false who is ignored.
	Node func(mac string) (config.Node, bool)
	// Programs gives the boot programs that there are.
	Programs func() map[config.Platform]string
	Log      logrus.FieldLogger
	Meter    Meter
	Now      func() time.Time // nil is time.Now
}

// Wire is an interface that is served.
type Wire struct {
	Name    string
	Index   int
	Mode    config.Mode
	Address netip.Addr // the server's own
	// Probe asks who uses an address, before it is offered; nil offers without that.
	Probe Prober
}

// Packet is what came in.
type Packet struct {
	Data []byte
	From netip.AddrPort
	Port int // that it came to: ServerPort or PXEPort
}

// Answer is what goes out.
type Answer struct {
	Data []byte
	To   netip.AddrPort
	// Hardware is where it goes on the wire when the node does not answer ARP yet; nil when it goes by the routes of this machine.
	Hardware net.HardwareAddr
}
