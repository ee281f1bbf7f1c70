package lease

import (
	"net/netip"
	"slices"
)

// Of gives the address that a node has now.
func (t *Table) Of(mac string) (netip.Addr, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ip, ok := t.o.Static[mac]; ok {
		return ip, true
	}
	l := t.byMAC[mac]
	if l == nil || l.Offered || !l.Expires.After(t.o.Now()) {
		return netip.Addr{}, false
	}
	return l.IP, true
}

// Who gives the MAC of the node that has an address now.
func (t *Table) Who(ip netip.Addr) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mac := t.fixed[ip]; mac != "" {
		return mac, true
	}
	l := t.byIP[ip]
	if l == nil || l.Offered || l.Declined || !l.Expires.After(t.o.Now()) {
		return "", false
	}
	return l.MAC, true
}

// Count says how many addresses of a pool are in use, and how many there are.
func (t *Table) Count(p Pool) (used, total int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.o.Now()
	for ip, l := range t.byIP {
		if _, fixed := t.fixed[ip]; !fixed && p.contains(ip) && l.Expires.After(now) {
			used++
		}
	}
	for ip := range t.fixed {
		if p.contains(ip) {
			total--
		}
	}
	return used, total + p.size()
}

// All gives the leases in force, by address.
func (t *Table) All() []Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	var list []Lease
	for _, l := range t.byIP {
		if l.Expires.After(t.o.Now()) && !l.Offered {
			list = append(list, *l)
		}
	}
	slices.SortFunc(list, func(a, b Lease) int { return a.IP.Compare(b.IP) })
	return list
}
