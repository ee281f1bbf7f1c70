package lease

import "net/netip"

// Unproven reports whether an address is offered to a node that never had it, and nobody has looked yet whether somebody else uses it.
func (t *Table) Unproven(mac string, ip netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byMAC[mac]
	return l != nil && l.IP == ip && l.Offered && !l.Proven
}

// Prove notes that somebody has looked, and that the address is free.
func (t *Table) Prove(mac string, ip netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byMAC[mac]; l != nil && l.IP == ip {
		l.Proven = true
	}
}

// Rest takes an address that is offered to a node out of use for a while: somebody else uses it. It is false when the node has taken it
// already, or is offered another.
func (t *Table) Rest(mac string, ip netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byMAC[mac]
	if l == nil || l.IP != ip || !l.Offered {
		return false
	}
	t.drop(l)
	t.rest(ip)
	return true
}

// rest has an address given to nobody for a while.
func (t *Table) rest(ip netip.Addr) {
	t.put(&Lease{MAC: declinedKey(ip), IP: ip, Expires: t.o.Now().Add(declineTime), Declined: true})
}

// Forget gives an offered address free: the node took the offer of another server.
func (t *Table) Forget(mac string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.byMAC[mac]; l != nil && l.Offered {
		t.drop(l)
	}
}
