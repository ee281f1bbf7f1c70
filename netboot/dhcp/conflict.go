package dhcp

import (
	"bytes"
	"context"
	"net"
	"net/netip"

	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// maxConflicts is how many addresses that somebody else uses a node's message may find; its next one goes on.
const maxConflicts = 4

// offer chooses an address for a node. One that nobody had from us yet is looked for on the wire first, where it can be: who has it although
// it is not his is told of, and the address rests.
func (h *Handler) offer(ctx context.Context, r *request) (netip.Addr, error) {
	for n := 0; ; n++ {
		ip, err := h.o.Leases.Offer(r.mac, r.subnet.Prefix, addr(r.m.RequestedIPAddress()))
		if err != nil || r.wire.Probe == nil || r.relay.IsValid() || n == maxConflicts || !h.o.Leases.Unproven(r.mac, ip) {
			return ip, err
		}
		late := func(hw net.HardwareAddr) { h.conflict(r, ip, hw) }
		if hw, used := r.wire.Probe.Probe(ctx, ip, late); used && h.conflict(r, ip, hw) {
			continue
		}
		h.o.Leases.Prove(r.mac, ip)
		return ip, nil
	}
}

// conflict puts an address aside that somebody else uses. It is false when that is the node itself, or came too late.
func (h *Handler) conflict(r *request, ip netip.Addr, hw net.HardwareAddr) bool {
	if bytes.Equal(hw, r.m.ClientHWAddr) || !h.o.Leases.Rest(r.mac, ip) {
		return false
	}
	h.o.Meter.Dropped(r.wire.Name, "conflict")
	h.see(r, nodes.Seen{Message: ip.String() + " is used by " + hw.String() + " already"})
	h.quiet.Do("conflict "+ip.String(), func(more int) {
		h.o.Log.WithFields(r.fields()).WithFields(map[string]any{"ip": ip.String(), "used_by": hw.String(), "more": more}).
			Warn("an address of `ranges` is used by somebody who did not get it from here; it is not given for ten minutes")
	})
	return true
}
