package dhcp

import (
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/script"
)

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
		if r.port == ServerPort { // the other server answers; this one learns which address the node will have
			seen := nodes.Seen{Addr: addr(r.m.RequestedIPAddress()), Message: "takes an address of another server"}
			if h.o.Nodes.Stage(r.mac).Before(bootstage.Lease) {
				seen.Stage = bootstage.Lease
			}
			h.see(r, seen)
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
