package dhcp

import (
	"context"
	"errors"
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/lease"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// discover offers an address.
func (h *Handler) discover(ctx context.Context, r *request) *dhcpv4.DHCPv4 {
	h.seeDiscover(r)
	ip, err := h.offer(ctx, r)
	if err != nil {
		h.cannot(r, err)
		return nil
	}
	h.see(r, nodes.Seen{Stage: r.stage(bootstage.Offer)})
	h.o.Log.WithFields(r.fields()).WithField("ip", ip).Debug("offered")
	return h.give(r, dhcpv4.MessageTypeOffer, ip)
}

// seeDiscover notes that a node asks, and whether it was switched on.
func (h *Handler) seeDiscover(r *request) {
	at := h.o.Nodes.Stage(r.mac)
	fresh := false
	switch r.client.kind {
	case pxe, httpBoot:
		fresh = at != bootstage.Discover && at != bootstage.Offer
	case ipxe:
		fresh = at == "" || !at.Before(bootstage.Script) // else it was fetched in this boot
	}
	stage := r.stage(bootstage.Discover)
	if r.client.kind == ipxe && !fresh {
		stage = ""
	}
	h.see(r, nodes.Seen{Stage: stage, Fresh: fresh, Message: "asks for an address"})
}

// stage is what a node enters by DHCP: only what boots is followed, and only up to its boot program.
func (r *request) stage(s bootstage.Stage) bootstage.Stage {
	if r.client.kind == plain {
		return ""
	}
	return s
}

func (h *Handler) cannot(r *request, err error) {
	if errors.Is(err, lease.ErrDry) {
		h.see(r, nodes.Seen{Stage: r.stage(bootstage.Offer), Error: "no address is left in " + r.subnet.Prefix.String()})
		h.drop(r.wire, "dry", "no address is left in "+r.subnet.Prefix.String()+": "+r.mac+" got none; give `ranges` more, or a shorter lease_time")
		return
	}
	h.see(r, nodes.Seen{Stage: r.stage(bootstage.Offer), Error: "its address is not of " + r.subnet.Prefix.String()})
	h.drop(r.wire, "elsewhere", r.mac+" has an address in the configuration that is not of "+r.subnet.Prefix.String()+", where it asks")
}

// request gives the address that a node asks for, or says that it cannot have it.
func (h *Handler) request(ctx context.Context, r *request) *dhcpv4.DHCPv4 {
	server, has := addr(r.m.ServerIdentifier()), addr(r.m.ClientIPAddr)
	ip := addr(r.m.RequestedIPAddress())
	if server.IsValid() && server != r.wire.Address {
		h.o.Leases.Forget(r.mac) // it took the offer of another server
		return nil
	}
	if !ip.IsValid() {
		ip = has // it renews
	}
	if !ip.IsValid() {
		h.drop(r.wire, "no-address", "a request of "+r.mac+" names no address")
		return nil
	}
	err := h.o.Leases.Commit(ctx, r.mac, r.subnet.Prefix, ip, r.subnet.Lease)
	switch {
	case errors.Is(err, lease.ErrTaken):
		h.o.Log.WithFields(r.fields()).WithField("ip", ip).Info("refused an address: it is another's, or not of this subnet")
		h.see(r, nodes.Seen{Message: "may not have " + ip.String()})
		return h.refuse(r)
	case err != nil:
		h.o.Log.WithFields(r.fields()).WithError(err).Error("a lease could not be kept; the node gets no address")
		h.see(r, nodes.Seen{Stage: r.stage(bootstage.Lease), Error: "the server cannot keep leases"})
		return nil
	}
	stage := r.stage(bootstage.Lease)
	if !h.o.Nodes.Stage(r.mac).Before(bootstage.Lease) {
		stage = ""
	}
	h.see(r, nodes.Seen{Stage: stage, Addr: ip, Message: "has " + ip.String()})
	h.o.Log.WithFields(r.fields()).WithField("ip", ip).Info("leased")
	return h.give(r, dhcpv4.MessageTypeAck, ip)
}

// inform tells a node that has an address what else there is.
func (h *Handler) inform(r *request) *dhcpv4.DHCPv4 {
	if !addr(r.m.ClientIPAddr).IsValid() {
		h.drop(r.wire, "no-address", "an INFORM of "+r.mac+" names no address")
		return nil
	}
	return h.give(r, dhcpv4.MessageTypeAck, netip.Addr{})
}

func (h *Handler) release(ctx context.Context, r *request) {
	if s := addr(r.m.ServerIdentifier()); s.IsValid() && s != r.wire.Address {
		return
	}
	if err := h.o.Leases.Release(ctx, r.mac, addr(r.m.ClientIPAddr)); err != nil {
		h.o.Log.WithFields(r.fields()).WithError(err).Error("a release could not be kept")
		return
	}
	h.see(r, nodes.Seen{Message: "gave its address back"})
	h.o.Log.WithFields(r.fields()).WithField("ip", addr(r.m.ClientIPAddr)).Info("released")
}

func (h *Handler) decline(ctx context.Context, r *request) {
	ip := addr(r.m.RequestedIPAddress())
	if s := addr(r.m.ServerIdentifier()); s.IsValid() && s != r.wire.Address || !ip.IsValid() {
		return
	}
	if err := h.o.Leases.Decline(ctx, r.mac, ip); err != nil {
		h.o.Log.WithFields(r.fields()).WithError(err).Error("an address that somebody else uses could not be put aside")
	}
	h.see(r, nodes.Seen{Error: ip.String() + " is used by somebody else"})
	h.o.Log.WithFields(r.fields()).WithField("ip", ip).Warn("an address is used by somebody else on the wire; find out who has it")
}
