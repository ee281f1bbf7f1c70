package lease

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"time"
)

func (t *Table) pool(subnet netip.Prefix) (Pool, bool) {
	i := slices.IndexFunc(t.o.Pools, func(p Pool) bool { return p.Subnet == subnet })
	if i < 0 {
		return Pool{}, false
	}
	return t.o.Pools[i], true
}

// choose finds the address for a node that has none of its own.
func (t *Table) choose(mac string, p Pool, want netip.Addr) (netip.Addr, bool) {
	if l := t.byMAC[mac]; l != nil && t.free(mac, p, l.IP) {
		return l.IP, true
	}
	if want.IsValid() && t.free(mac, p, want) && t.byIP[want] == nil {
		return want, true
	}
	size, now := p.size(), t.o.Now()
	if size == 0 || now.Before(t.dry[p.Subnet]) {
		return netip.Addr{}, false
	}
	// the first try depends on the MAC, so that nodes keep their addresses also when what is on disk is lost
	h := fnv.New32a()
	_, _ = h.Write([]byte(mac)) // never fails
	start := int(h.Sum32() % uint32(size))
	var oldest *Lease
	for i := range size {
		ip := p.at((start + i) % size)
		l := t.byIP[ip]
		if l == nil && t.free(mac, p, ip) {
			return ip, true
		}
		if l != nil && t.free(mac, p, ip) && (oldest == nil || l.Expires.Before(oldest.Expires)) {
			oldest = l
		}
	}
	if oldest == nil {
		t.dry[p.Subnet] = t.firstEnd(p, now)
		return netip.Addr{}, false
	}
	return oldest.IP, true
}

// firstEnd is when the first lease of a dry pool ends. Who asks until then is not to cost a look at each address.
func (t *Table) firstEnd(p Pool, now time.Time) time.Time {
	first := now.Add(offerTime)
	for ip, l := range t.byIP {
		if p.contains(ip) && l.Expires.After(now) && l.Expires.Before(first) {
			first = l.Expires
		}
	}
	return first
}

// free reports whether a node can be given an address of a pool.
func (t *Table) free(mac string, p Pool, ip netip.Addr) bool {
	if _, taken := t.fixed[ip]; taken || !p.contains(ip) {
		return false
	}
	l := t.byIP[ip]
	return l == nil || l.MAC == mac || !l.Expires.After(t.o.Now())
}

// put makes l the lease of its node and of its address.
func (t *Table) put(l *Lease) {
	if old := t.byMAC[l.MAC]; old != nil && old.IP != l.IP {
		t.drop(old)
	}
	if old := t.byIP[l.IP]; old != nil && old.MAC != l.MAC {
		t.drop(old)
	}
	if now := t.o.Now(); !l.Expires.After(now) {
		clear(t.dry) // given back
	}
	t.byMAC[l.MAC], t.byIP[l.IP] = l, l
}

func (t *Table) drop(l *Lease) {
	clear(t.dry)
	if t.byMAC[l.MAC] == l {
		delete(t.byMAC, l.MAC)
	}
	if t.byIP[l.IP] == l {
		delete(t.byIP, l.IP)
	}
}

// declinedKey stands for the unknown owner of an address; it is no MAC.
func declinedKey(ip netip.Addr) string { return "declined " + ip.String() }
