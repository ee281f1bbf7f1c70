package nodes

import (
	"cmp"
	"container/list"
	"net/netip"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// Registry is all nodes. It may be used by several goroutines.
type Registry struct {
	now    func() time.Time
	keep   keeper
	mu     sync.Mutex
	nodes  map[string]*node
	byAddr map[netip.Addr]*node
	others *list.List // of *node, those seen last in front
	events []Event    // a ring
	next   int
	dirty  bool
	// what is to be written: see keeper
	keeping bool
	seq     uint64
	pending []byte
}

type node struct {
	s     Status
	addr  netip.Addr
	place *list.Element // nil for a listed node
}

// New makes a registry of the listed nodes; now may be nil.
func New(listed []Listed, now func() time.Time) *Registry {
	if now == nil {
		now = time.Now
	}
	r := &Registry{now: now, nodes: map[string]*node{}, byAddr: map[netip.Addr]*node{}, others: list.New()}
	for _, l := range listed {
		n := &node{s: Status{MAC: l.MAC, Name: l.Name, Group: l.Group, Listed: true, Stages: []Entry{}}}
		r.nodes[l.MAC] = n
		r.bind(n, l.IP)
	}
	return r
}

// See notes what was seen, and gives the node's MAC and name. ok is false when the address is nobody's that is known.
func (r *Registry) See(s Seen) (mac, name string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now().UTC()
	// that a node goes on reading is not worth a line: when it was killed, a server has lost how much
	if mac, name, ok = r.see(s, now); ok && (s.Source != HTTP || s.Stage != "" || s.Error != "") {
		r.remember(s, now)
	}
	return mac, name, ok
}

// see is See at a time.
func (r *Registry) see(s Seen, now time.Time) (mac, name string, ok bool) {
	n := r.find(s)
	if n == nil {
		return "", "", false
	}
	at := now
	if !s.At.IsZero() && s.At.Before(now) {
		at = s.At.UTC()
	}
	r.dirty = true
	if s.Fresh || n.s.Boots == 0 || n.restarted(s, at) {
		n.s = Status{MAC: n.s.MAC, Name: n.s.Name, Group: n.s.Group, Listed: n.s.Listed, IP: n.s.IP, Boots: n.s.Boots + 1, Error: n.s.Error, Stages: []Entry{}}
	}
	n.s.Last = now
	n.s.Bytes += s.Bytes
	n.s.Platform = cmp.Or(s.Platform, n.s.Platform)
	r.bind(n, s.Addr)
	if s.Stage != "" {
		if s.Error != "" {
			s.State = bootstage.Failed
		}
		n.enter(s, at)
	}
	if s.Error != "" {
		n.s.Error = &Failure{Stage: cmp.Or(s.Stage, n.s.Stage), Time: at, Text: s.Error}
	}
	r.note(Event{Time: at, MAC: n.s.MAC, Name: n.s.Name, Source: s.Source, Stage: s.Stage, State: s.State, Message: s.Message, Error: s.Error})
	return n.s.MAC, n.s.Name, true
}

// find gives the node that was seen; one that is not known is added when its MAC is.
func (r *Registry) find(s Seen) *node {
	if s.MAC == "" {
		return r.byAddr[s.Addr]
	}
	n := r.nodes[s.MAC]
	if n == nil {
		for r.others.Len() >= maxOthers {
			r.forget(r.others.Back().Value.(*node))
		}
		n = &node{s: Status{MAC: s.MAC, Stages: []Entry{}}}
		n.place = r.others.PushFront(n)
		r.nodes[s.MAC] = n
	} else if n.place != nil {
		r.others.MoveToFront(n.place)
	}
	return n
}

func (r *Registry) forget(n *node) {
	r.others.Remove(n.place)
	delete(r.nodes, n.s.MAC)
	if r.byAddr[n.addr] == n {
		delete(r.byAddr, n.addr)
	}
}

// bind says that an address is a node's, and not another's any more.
func (r *Registry) bind(n *node, a netip.Addr) {
	if !a.IsValid() || a == n.addr && r.byAddr[a] == n {
		return
	}
	if r.byAddr[n.addr] == n {
		delete(r.byAddr, n.addr)
	}
	if other := r.byAddr[a]; other != nil {
		other.addr, other.s.IP = netip.Addr{}, ""
	}
	n.addr, n.s.IP = a, a.String()
	r.byAddr[a] = n
}

func (r *Registry) note(e Event) {
	if len(r.events) < maxEvents {
		r.events = append(r.events, e)
		return
	}
	r.events[r.next] = e
	r.next = (r.next + 1) % maxEvents
}
