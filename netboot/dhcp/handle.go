package dhcp

import (
	"context"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/quiet"
)

// Handler answers packets. It may be used by several goroutines.
type Handler struct {
	o     Options
	quiet *quiet.Log
}

// New makes a handler.
func New(o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Handler{o: o, quiet: quiet.New(o.Now)}
}

// request is one message and what is known of who sent it.
type request struct {
	wire   Wire
	m      *dhcpv4.DHCPv4
	port   int
	from   netip.AddrPort
	mac    string
	node   config.Node
	client client
	subnet config.Subnet
	relay  netip.Addr // of the agent; the zero Addr when there is none
}

// Handle answers a packet; nil is no answer. Whatever is in the packet, it comes back.
func (h *Handler) Handle(ctx context.Context, w Wire, p Packet) *Answer {
	m, reason := parse(p.Data)
	if m == nil {
		h.drop(w, reason, "a packet from "+p.From.String()+" is no DHCP request")
		return nil
	}
	h.noticeRequest(w, m)
	r := &request{wire: w, m: m, port: p.Port, from: p.From, mac: m.ClientHWAddr.String(), client: identify(m), relay: addr(m.GatewayIPAddr)}
	var known bool
	if r.node, known = h.o.Node(r.mac); !known {
		h.o.Meter.Dropped(w.Name, "unlisted")
		h.o.Log.WithFields(r.fields()).Debug("ignored a node that is not listed")
		h.quiet.Do("unlisted "+w.Name, func(more int) {
			h.o.Log.WithFields(r.fields()).WithField("more", more).Info("ignored a node that is not listed; `unknown: default-group` would boot it")
		})
		return nil
	}
	reply := h.reply(ctx, r)
	answered := ""
	if reply != nil {
		answered = reply.MessageType().String()
	}
	h.o.Meter.Message(w.Name, m.MessageType().String(), answered)
	if reply == nil {
		return nil
	}
	return r.address(reply)
}

// reply chooses by mode, port and type of the message.
func (h *Handler) reply(ctx context.Context, r *request) *dhcpv4.DHCPv4 {
	switch {
	case r.port == PXEPort || r.wire.Mode == config.Proxy && !r.relay.IsValid():
		return h.proxy(r)
	case r.wire.Mode != config.DHCP && r.wire.Mode != config.Proxy:
		return nil
	}
	if !r.locate(h.o.Site) { // else anybody could have answers sent to any address, as a relay agent
		h.drop(r.wire, "no-subnet", "a request from "+r.mac+" came from a network that is not in `subnets`")
		return nil
	}
	if r.wire.Mode == config.Proxy {
		return h.proxy(r)
	}
	switch r.m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return h.discover(ctx, r)
	case dhcpv4.MessageTypeRequest:
		return h.request(ctx, r)
	case dhcpv4.MessageTypeInform:
		return h.inform(r)
	case dhcpv4.MessageTypeRelease:
		h.release(ctx, r)
	case dhcpv4.MessageTypeDecline:
		h.decline(ctx, r)
	}
	return nil
}

// maxPacket is more than any node sends on Ethernet.
const maxPacket = 2048

// parse reads a request; without one it says why, in a word.
func parse(data []byte) (*dhcpv4.DHCPv4, string) {
	if len(data) > maxPacket {
		return nil, "oversized"
	}
	m, err := dhcpv4.FromBytes(data)
	switch {
	case err != nil:
		return nil, "malformed"
	case m.OpCode != dhcpv4.OpcodeBootRequest:
		return nil, "no-request"
	case m.HWType != iana.HWTypeEthernet || len(m.ClientHWAddr) != 6 || m.ClientHWAddr[0]&1 != 0 || m.ClientHWAddr.String() == "00:00:00:00:00:00":
		return nil, "no-ethernet"
	case m.MessageType() == dhcpv4.MessageTypeNone:
		return nil, "no-type"
	}
	// nobody needs more of these, and they are sent back
	if len(m.Options.Get(dhcpv4.OptionClientIdentifier)) > 255 || len(m.Options.Get(dhcpv4.OptionRelayAgentInformation)) > 255 {
		return nil, "oversized"
	}
	return m, ""
}

// addr turns an address into ours; unset ones are the zero Addr.
func addr(ip []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// locate finds the subnet that the node is in: by its relay agent, by the address that it has, or by the wire.
func (r *request) locate(site *config.Config) bool {
	at := r.wire.Address
	if c := addr(r.m.ClientIPAddr); r.relay.IsValid() {
		at = r.relay
	} else if _, ok := site.SubnetOf(c); ok && c.IsValid() {
		at = c
	}
	var ok bool
	r.subnet, ok = site.SubnetOf(at)
	return ok
}

func (r *request) fields() map[string]any {
	f := map[string]any{"wire": r.wire.Name, "mac": r.mac, "asked": r.m.MessageType().String(), "client": r.client.String()}
	if r.node.Name != "" {
		f["node"] = r.node.Name
	}
	if r.relay.IsValid() {
		f["relay"] = r.relay.String()
	}
	return f
}

// drop counts and tells, not too often, that a packet came to nothing.
func (h *Handler) drop(w Wire, reason, text string) {
	h.o.Meter.Dropped(w.Name, reason)
	h.quiet.Do(reason+" "+w.Name, func(more int) {
		h.o.Log.WithFields(map[string]any{"wire": w.Name, "reason": reason, "more": more}).Warn(text)
	})
}

func (h *Handler) see(r *request, s nodes.Seen) {
	s.MAC, s.Source = r.mac, nodes.DHCP
	if r.client.kind != plain {
		s.Platform = r.client.String()
	}
	h.o.Nodes.See(s)
}
