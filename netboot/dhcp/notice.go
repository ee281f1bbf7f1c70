package dhcp

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/windlass-hpc/windlass/netboot/config"
)

// noticeRequest looks whether a node takes the offer of another server.
func (h *Handler) noticeRequest(w Wire, m *dhcpv4.DHCPv4) {
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		h.notice(w, addr(m.ServerIdentifier()))
	}
}

// Overheard looks at what was sent to nodes: another server on the wire that gives addresses is told of. Two that do are a mistake, but
// the wire is not ours alone: service goes on.
func (h *Handler) Overheard(w Wire, data []byte) {
	if len(data) > maxPacket {
		return
	}
	m, err := dhcpv4.FromBytes(data)
	if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || !addr(m.YourIPAddr).IsValid() {
		return // a proxy gives no addresses
	}
	h.notice(w, addr(m.ServerIdentifier()))
}

func (h *Handler) notice(w Wire, server netip.Addr) {
	if w.Mode != config.DHCP || !server.IsValid() || server == w.Address {
		return
	}
	h.o.Meter.OtherServer(w.Name)
	h.quiet.Do("server "+w.Name+" "+server.String(), func(more int) {
		h.o.Log.WithFields(map[string]any{"wire": w.Name, "server": server.String(), "more": more}).
			Warn("another DHCP server gives addresses on this wire: nodes may get the wrong one; switch it off, or use mode: proxy here")
	})
}
