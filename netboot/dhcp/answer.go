package dhcp

import (
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/windlass-hpc/windlass/netboot/config"
)

const (
	maxFileField = 127 // of the header, with the final NUL 128
	headers      = 28  // IP and UDP, which the largest size that a node names includes
	minMessage   = 576
	maxMessage   = 1500
)

// begin makes an answer with what every answer has.
func (h *Handler) begin(r *request, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	reply, err := dhcpv4.NewReplyFromRequest(r.m, dhcpv4.WithMessageType(t), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(r.wire.Address.AsSlice())))
	if err != nil { // no random number for an id that is overwritten
		h.drop(r.wire, "internal", "no answer could be made: "+err.Error())
		return nil
	}
	return reply
}

// refuse says that an address cannot be had.
func (h *Handler) refuse(r *request) *dhcpv4.DHCPv4 {
	reply := h.begin(r, dhcpv4.MessageTypeNak)
	if reply != nil && r.relay.IsValid() {
		reply.SetBroadcast() // RFC 2131, 4.3.2: the node does not have the address that the agent would send to
	}
	return reply
}

// give answers with an address, unless it is the zero Addr, and with all that goes with it.
func (h *Handler) give(r *request, t dhcpv4.MessageType, ip netip.Addr) *dhcpv4.DHCPv4 {
	reply := h.begin(r, t)
	if reply == nil {
		return nil
	}
	s := r.subnet
	if ip.IsValid() {
		reply.YourIPAddr = ip.AsSlice()
		reply.UpdateOption(dhcpv4.OptIPAddressLeaseTime(s.Lease))
		reply.UpdateOption(dhcpv4.OptRenewTimeValue((s.Lease / 2).Truncate(time.Second)))
		reply.UpdateOption(dhcpv4.OptRebindingTimeValue((s.Lease * 7 / 8).Truncate(time.Second)))
	}
	if t == dhcpv4.MessageTypeAck {
		reply.ClientIPAddr = r.m.ClientIPAddr
	}
	reply.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(s.Prefix.Bits(), 32)))
	reply.UpdateOption(dhcpv4.OptBroadcastAddress(config.Broadcast(s.Prefix).AsSlice()))
	if s.Router.IsValid() {
		reply.UpdateOption(dhcpv4.OptRouter(s.Router.AsSlice()))
	}
	if len(s.DNS) > 0 {
		reply.UpdateOption(dhcpv4.OptDNS(ips(s.DNS)...))
	}
	if len(s.NTP) > 0 {
		reply.UpdateOption(dhcpv4.OptNTPServers(ips(s.NTP)...))
	}
	if s.Domain != "" {
		reply.UpdateOption(dhcpv4.OptDomainName(s.Domain))
	}
	host, _, _ := strings.Cut(r.node.Name, ".")
	reply.UpdateOption(dhcpv4.OptHostName(host))
	h.boot(r, reply)
	return r.fit(reply)
}

func ips(list []netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range list {
		out = append(out, a.AsSlice())
	}
	return out
}

// fit drops what a node can do without until the message is no larger than it takes.
func (r *request) fit(reply *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	limit := minMessage
	if n, err := r.m.MaxMessageSize(); err == nil {
		limit = min(max(int(n), minMessage), maxMessage)
	}
	spare := []dhcpv4.OptionCode{dhcpv4.OptionNTPServers, dhcpv4.OptionBroadcastAddress, dhcpv4.OptionDomainName, dhcpv4.OptionHostName,
		dhcpv4.OptionClientMachineIdentifier, dhcpv4.OptionDomainNameServer, dhcpv4.OptionTFTPServerName, dhcpv4.OptionRenewTimeValue,
		dhcpv4.OptionRebindingTimeValue}
	if reply.BootFileName != "" {
		spare = append(spare, dhcpv4.OptionBootfileName) // it stands in the header
	}
	for _, code := range spare {
		if len(reply.ToBytes())+headers <= limit {
			break
		}
		reply.DeleteOption(code)
	}
	return reply
}

// address says where an answer goes: RFC 2131, 4.1.
func (r *request) address(reply *dhcpv4.DHCPv4) *Answer {
	a := &Answer{Data: reply.ToBytes()}
	has, gets := addr(r.m.ClientIPAddr), addr(reply.YourIPAddr)
	broadcast := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), ClientPort)
	everybody := net.HardwareAddr{255, 255, 255, 255, 255, 255}
	switch {
	case r.port == PXEPort:
		a.To = r.from
		if a.To.Addr().IsUnspecified() {
			a.To = netip.AddrPortFrom(has, r.from.Port())
		}
	case r.relay.IsValid():
		a.To = netip.AddrPortFrom(r.relay, ServerPort)
	case reply.MessageType() == dhcpv4.MessageTypeNak:
		a.To, a.Hardware = broadcast, everybody
	case has.IsValid():
		a.To = netip.AddrPortFrom(has, ClientPort)
	case r.m.IsBroadcast() || !gets.IsValid():
		a.To, a.Hardware = broadcast, everybody
	default:
		a.To, a.Hardware = netip.AddrPortFrom(gets, ClientPort), r.m.ClientHWAddr
	}
	return a
}
