package dhcp

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/script"
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
	reply.UpdateOption(dhcpv4.OptHostName(r.node.Name))
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

// proxy answers with what to boot alone: beside a server that gives addresses, or to the second question of firmware that was told to ask it.
func (h *Handler) proxy(r *request) *dhcpv4.DHCPv4 {
	if r.client.kind == plain {
		return nil
	}
	t := dhcpv4.MessageTypeAck
	switch r.m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		if r.port == PXEPort {
			return nil
		}
		t = dhcpv4.MessageTypeOffer
		h.seeDiscover(r)
	case dhcpv4.MessageTypeRequest:
		if r.port == ServerPort { // the other server answers; it tells all which address this node will have
			h.see(r, nodes.Seen{Addr: addr(r.m.RequestedIPAddress())})
			return nil
		}
	case dhcpv4.MessageTypeInform:
	default:
		return nil
	}
	if r.port == PXEPort && !addr(r.m.ClientIPAddr).IsValid() && !r.from.Addr().IsValid() {
		return nil
	}
	reply := h.begin(r, t)
	if reply == nil {
		return nil
	}
	if u := r.m.Options.Get(dhcpv4.OptionClassIdentifier); u != nil && r.client.kind != httpBoot {
		reply.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
	}
	reply.ClientIPAddr = r.m.ClientIPAddr
	if !h.boot(r, reply) {
		return nil
	}
	if t == dhcpv4.MessageTypeOffer {
		h.see(r, nodes.Seen{Stage: bootstage.Offer, Message: "was told what to boot"})
	}
	return r.fit(reply)
}

// boot adds what to boot. It is false when there is nothing for this node.
func (h *Handler) boot(r *request, reply *dhcpv4.DHCPv4) bool {
	if r.client.kind == plain {
		return true
	}
	file := h.file(r)
	if file == "" {
		return false
	}
	reply.ServerIPAddr = r.wire.Address.AsSlice()
	if len(file) <= maxFileField {
		reply.BootFileName = file
	}
	reply.UpdateOption(dhcpv4.OptBootFileName(file))
	if id := r.m.Options.Get(dhcpv4.OptionClientMachineIdentifier); len(id) == 17 {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, id))
	}
	switch r.client.kind {
	case httpBoot:
		reply.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient"))
	case pxe:
		reply.UpdateOption(dhcpv4.OptTFTPServerName(r.wire.Address.String()))
		reply.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
		// PXE_DISCOVERY_CONTROL 8: boot the file named here, without asking who else has one
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
	case ipxe:
		if r.wire.Mode == config.DHCP {
			// no-pxedhcp: spares iPXE 3 s of waiting for a proxy
			reply.UpdateOption(dhcpv4.OptGeneric(optionIPXE, []byte{176, 1, 1}))
		} else {
			reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
		}
	}
	return true
}

// file names what to boot: a program by TFTP or HTTP, or iPXE's script.
func (h *Handler) file(r *request) string {
	base := h.base(r.wire)
	switch {
	case r.client.kind == ipxe && base != "":
		return base + script.IPXEPath + "?mac=" + r.mac
	case r.client.kind == ipxe:
		h.drop(r.wire, "no-http", r.mac+" runs iPXE, but there is no web server (http.listen) to boot it from")
		return ""
	}
	program := h.o.Programs()[r.client.platform]
	switch {
	case r.client.platform == "" || program == "":
		h.see(r, nodes.Seen{Error: "there is no boot program for " + r.client.String()})
		h.drop(r.wire, "no-program", r.mac+": there is no boot program for "+r.client.String()+" in "+h.o.Site.IPXE.Dir)
		return ""
	case r.client.kind == httpBoot && base == "":
		h.drop(r.wire, "no-http", r.mac+" boots by HTTP, but there is no web server (http.listen)")
		return ""
	case r.client.kind == httpBoot:
		return base + script.BinPath + program
	case h.o.Site.TFTP.Listen == "":
		h.drop(r.wire, "no-tftp", r.mac+" boots by TFTP, which is off (tftp.listen)")
		return ""
	}
	return program
}

// base is the URL of the web server for nodes on a wire, or "".
func (h *Handler) base(w Wire) string {
	if u := h.o.Site.HTTP.URL; u != "" {
		return u
	}
	port := h.o.Site.HTTP.Port()
	if port == "" {
		return ""
	}
	return "http://" + net.JoinHostPort(w.Address.String(), port)
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
