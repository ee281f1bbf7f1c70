// Package lease keeps who has which address: those of listed nodes, and those given from pools.
//
// An address that was given is on disk before the node hears of it, and known to the next server, also after SIGKILL. A node is known by its
// MAC alone: firmware, iPXE and the operating system on it have client identifiers of their own and are to get one address.
// The package speaks no DHCP.
package lease

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// The errors of a Table.
var (
	ErrDry   = errors.New("all addresses of the pool are taken")
	ErrTaken = errors.New("the address is another's, or not to be given")
)

// Lease is one address in use, or remembered for who had it last.
type Lease struct {
	MAC     string     `json:"mac"`
	IP      netip.Addr `json:"ip"`
	Expires time.Time  `json:"expires"`
	// Gone is on disk only: the node has none any more.
	Gone bool `json:"gone,omitempty"`
	// Offered marks an address that is held for a moment for who has not taken it yet; Declined one that somebody else uses, as was found
	// out; Static one of the configuration. They are not on disk.
	Offered  bool `json:"-"`
	Declined bool `json:"-"`
	Static   bool `json:"-"`
	// Proven marks an offered address that nobody else seems to use.
	Proven bool `json:"-"`

	// until is what is on disk as Expires, which is later: a lease that is renewed soon need not be written again. synced says that it is there.
	until  time.Time
	synced bool
}

// Range is addresses from First to Last.
type Range struct{ First, Last netip.Addr }

// Pool is the addresses of one subnet that are given to whoever has none of its own.
type Pool struct {
	Subnet netip.Prefix
	Ranges []Range
}

// Options say what there is to give.
type Options struct {
	Dir    string // where leases are kept
	Pools  []Pool
	Static map[string]netip.Addr // by MAC
	// Reserved are addresses that are in a pool and not to be given, such as the router's.
	Reserved []netip.Addr
	Now      func() time.Time // nil is time.Now
}

const (
	// offerTime is how long an offered address is held.
	offerTime = time.Minute
	// declineTime is how long an address that somebody else uses is not given again.
	declineTime = 10 * time.Minute
)

// Table is all leases. It may be used by several goroutines.
type Table struct {
	o     Options
	mu    sync.Mutex
	byMAC map[string]*Lease
	byIP  map[netip.Addr]*Lease
	fixed map[netip.Addr]string      // MAC of whose it is for good; "" is nobody's
	dry   map[netip.Prefix]time.Time // until when no address is left, unless one is given back
	j     *journal
}

// Offer gives the address that a node is to have in a subnet, and holds it for a while: its own, the one that it had, the one it wants, or
// any that is free. The error is ErrDry, or ErrTaken when its own address lies elsewhere.
func (t *Table) Offer(mac string, subnet netip.Prefix, want netip.Addr) (netip.Addr, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ip, ok := t.o.Static[mac]; ok {
		if !subnet.Contains(ip) {
			return netip.Addr{}, ErrTaken
		}
		return ip, nil
	}
	p, ok := t.pool(subnet)
	if !ok {
		return netip.Addr{}, ErrDry
	}
	ip, ok := t.choose(mac, p, want)
	if !ok {
		return netip.Addr{}, ErrDry
	}
	if l := t.byMAC[mac]; l != nil && l.IP == ip && l.Expires.After(t.o.Now()) {
		return ip, nil
	}
	old := t.byMAC[mac]
	had := old != nil && old.IP == ip && (!old.Offered || old.Proven) // an address that it had
	t.put(&Lease{MAC: mac, IP: ip, Expires: t.o.Now().Add(offerTime), Offered: true, Proven: had})
	return ip, nil
}

// Commit gives an address to a node for a time, on disk first. ErrTaken says that it cannot have that one. Calls of several goroutines are
// synced together.
func (t *Table) Commit(_ context.Context, mac string, subnet netip.Prefix, ip netip.Addr, d time.Duration) error {
	t.mu.Lock()
	l := &Lease{MAC: mac, IP: ip, Expires: t.o.Now().Add(d).UTC()}
	l.until = l.Expires.Add(d / 8)
	if own, ok := t.o.Static[mac]; ok {
		defer t.mu.Unlock()
		if own != ip || !subnet.Contains(ip) {
			return ErrTaken
		}
		l.Static = true // the configuration keeps it
		t.put(l)
		return nil
	}
	if p, ok := t.pool(subnet); !ok || !t.free(mac, p, ip) {
		t.mu.Unlock()
		return ErrTaken
	}
	// firmware, iPXE and the system on a node ask one after the other
	if old := t.byMAC[mac]; old != nil && old.IP == ip && old.synced && !old.until.Before(l.Expires) {
		old.Expires = l.Expires
		t.mu.Unlock()
		return nil
	}
	return t.keep(l, l.line())
}

// keep puts a lease into the table, so that nobody else gets the address, and then on disk. When that fails, all is as it was. The caller has
// locked the table; it comes back unlocked.
func (t *Table) keep(l *Lease, line []byte) error {
	old := t.byMAC[l.MAC]
	t.put(l)
	b := t.j.add(line)
	t.mu.Unlock()
	err := t.j.wait(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		l.synced = true
		return nil
	}
	if t.byMAC[l.MAC] == l {
		t.drop(l)
		if old != nil && t.byIP[old.IP] == nil {
			t.put(old)
		}
	}
	return err
}

// Release ends the lease of a node that gives its address back. The address stays remembered for it.
func (t *Table) Release(_ context.Context, mac string, ip netip.Addr) error {
	t.mu.Lock()
	l := t.byMAC[mac]
	if l == nil || l.IP != ip || !l.kept() {
		if l != nil && l.IP == ip && l.Offered {
			t.drop(l)
		}
		t.mu.Unlock()
		return nil
	}
	now := t.o.Now().UTC()
	ended := &Lease{MAC: mac, IP: ip, Expires: now, until: now}
	return t.keep(ended, ended.line())
}

// Decline takes an address out of use for a while: the node that was to have it found that somebody else uses it.
func (t *Table) Decline(_ context.Context, mac string, ip netip.Addr) error {
	t.mu.Lock()
	l := t.byMAC[mac]
	if l == nil || l.IP != ip {
		t.mu.Unlock()
		return nil
	}
	t.drop(l)
	t.rest(ip)
	gone := Lease{MAC: mac, IP: ip, Gone: true}
	b := t.j.add(gone.line())
	t.mu.Unlock()
	return t.j.wait(b)
}
