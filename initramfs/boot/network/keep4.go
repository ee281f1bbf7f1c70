package network

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

// held4 is a lease while it is kept.
type held4 struct {
	lease   *nclient4.Lease
	now     lease4
	expires time.Time
	over    int // how often nobody renewed it since
}

func (h *held4) take(d *device, lease *nclient4.Lease) error {
	now, err := d.believe4(lease.ACK)
	if err != nil {
		return err
	}
	h.lease, h.now, h.expires, h.over = lease, now, time.Now().Add(lease.ACK.IPAddressLeaseTime(time.Hour)), 0
	return nil
}

// keep4 sets what the lease says and renews it, until it is taken away. It says whether that was because somebody else has the address; then
// the server knows it. When decline is false that is told only.
func (d *device) keep4(ctx context.Context, lease *nclient4.Lease, decline bool) (inUse bool) {
	h := &held4{}
	if h.take(d, lease) != nil {
		return false
	}
	others := d.others(ctx, h.now.Address.Addr())
	if others != nil {
		select { // nearly all who have it answer before it is used at all
		case who := <-others:
			if others = nil; d.inUse(h, who, decline) {
				return true
			}
		case <-time.After(firstAnswer):
		}
	}
	d.apply4(h.now, lease4{})
	for {
		select {
		case who := <-others:
			if others = nil; d.inUse(h, who, decline) {
				return true
			}
		case <-time.After(h.now.renew):
			if !d.renew4(ctx, h) {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}

// inUse takes an address that somebody else has off the device and declines it, and says whether that was done.
func (d *device) inUse(h *held4, who net.HardwareAddr, decline bool) bool {
	if !decline {
		d.say("%s is used by %s, as others were that were declined: somebody may answer for every address; it is taken all the same", h.now.Address, who)
		return false
	}
	d.say("%s is used by %s: it is declined", h.now.Address, who)
	d.drop4(h.now)
	d.tell(wrap("decline "+h.now.Address.String(), d.decline(h.lease.ACK, who)))
	return true
}

// renew4 asks for more time, and says whether the lease is kept on.
func (d *device) renew4(ctx context.Context, h *held4) bool {
	next, err := d.ask4(func(c *nclient4.Client) (*nclient4.Lease, error) {
		switch left := time.Until(h.expires); {
		case left > h.lease.ACK.IPAddressLeaseTime(time.Hour)/8:
			return c.Renew(ctx, h.lease, d.wishes()...)
		case left > 0:
			return d.rebind(ctx, c, h.lease)
		}
		return d.regain(ctx, c, h.lease)
	})
	var nak *nclient4.ErrNak
	switch {
	case ctx.Err() != nil:
		return false
	case errors.As(err, &nak):
		d.say("the DHCP server takes %s away", h.now.Address)
		d.drop4(h.now)
		return false
	case err != nil && time.Now().After(h.expires):
		// The address stays: storage may lie behind it, and nobody can have it who asks whether it is free.
		if h.over++; seldom(h.over) {
			d.say("the lease of %s has run out, and nobody renews it: %v; it is kept", h.now.Address, reason(err))
		}
		h.now.renew = d.net.cfg.Timing.Longest
	case err != nil:
		h.now.renew = max(time.Until(h.expires)/2, d.net.cfg.Timing.Pause)
	default:
		old := h.now
		if h.take(d, next) != nil {
			return false
		}
		d.apply4(h.now, old)
	}
	return true
}

// apply4 sets what a lease says, in place of what an older one said.
func (d *device) apply4(l, old lease4) {
	if l.mtu > 0 && d.spec.MTU == 0 {
		d.tell(wrap("MTU from DHCP", netlink.LinkSetMTU(d.link, l.mtu)))
	}
	if old.Address.IsValid() && old.Address != l.Address {
		d.say("the DHCP server gives %s in place of %s", l.Address, old.Address)
		d.drop4(old)
	}
	if err := d.setAddress(l.Address); err != nil {
		d.say("%v", err)
		return
	}
	ways := l.ways()
	for _, r := range ways {
		d.tell(d.setRoute(r.To, r.Via))
	}
	if len(ways) > 0 { // some servers say less when they renew
		for _, r := range old.ways() {
			if !slices.Contains(ways, r) {
				d.tell(d.dropRoute(r.To, r.Via))
			}
		}
	}
	d.net.add(d, "dhcp4", l.Settings, atOnce)
}

// drop4 takes away what a lease said.
func (d *device) drop4(l lease4) {
	for _, r := range l.ways() {
		d.tell(d.dropRoute(r.To, r.Via))
	}
	d.tell(d.dropAddress(l.Address))
}

// renewal gives after how long a lease is to be renewed: when the server says (T1), or after half of it when that is no time before its end.
// Nodes that were switched on together do not ask together.
func renewal(t1, lease time.Duration) time.Duration {
	if t1 <= 0 || t1 > lease/8*7 {
		t1 = lease / 2
	}
	t1 = max(t1, time.Second)
	return max(t1-t1/10+rand.N(t1/5), time.Second) //nolint:gosec // not a secret
}

// held gives an address that the device has and the command line does not say: a process before this one got it.
func (d *device) held() (netip.Addr, bool) {
	list, err := netlink.AddrList(d.link, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		said := slices.ContainsFunc(d.spec.Addresses, func(p netip.Prefix) bool { return p.Addr() == ip })
		if ok && !said && usable(ip) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}
