// Package nodes knows how far each node has come, from what the servers saw of it and what it reported.
//
// Listed nodes are always known. Of others a bounded number is remembered, those seen last: anybody on the wire can invent addresses.
package nodes

import (
	"cmp"
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

const (
	// maxOthers bounds the nodes that are not listed, maxEvents what happened lately.
	maxOthers = 1024
	maxEvents = 4096
)

// Source is who saw something.
type Source string

// The sources.
const (
	DHCP   Source = "dhcp"
	TFTP   Source = "tftp"
	HTTP   Source = "http"
	Report Source = "report"
)

// Seen is one thing that was seen of a node.
type Seen struct {
	MAC    string // may be empty when Addr is known to be a node's
	Addr   netip.Addr
	Source Source
	// Stage is what the node entered; empty when it did not.
	Stage bootstage.Stage
	// Fresh says that the node began anew: it was switched on.
	Fresh    bool
	Platform string
	Message  string
	Error    string
	Bytes    int64 // sent to it
}

// Listed is a node of the configuration.
type Listed struct {
	MAC, Name, Group string
	IP               netip.Addr
}

// Entry is when a stage was entered in this boot.
type Entry struct {
	Stage bootstage.Stage `json:"stage"`
	Time  time.Time       `json:"time"`
	// Seconds is the time since the first thing seen of this boot.
	Seconds float64 `json:"seconds"`
}

// Failure is the last error of a node.
type Failure struct {
	Stage bootstage.Stage `json:"stage,omitempty"`
	Time  time.Time       `json:"time"`
	Text  string          `json:"text"`
}

// Status is how far a node has come.
type Status struct {
	MAC      string          `json:"mac"`
	Name     string          `json:"name,omitempty"`
	Group    string          `json:"group,omitempty"`
	Listed   bool            `json:"listed"`
	IP       string          `json:"ip,omitempty"`
	Platform string          `json:"platform,omitempty"`
	Stage    bootstage.Stage `json:"stage,omitempty"`
	Since    time.Time       `json:"since,omitzero"`
	Last     time.Time       `json:"last,omitzero"` // when anything was seen of it
	Boots    int             `json:"boots"`
	Bytes    int64           `json:"bytes"` // sent to it in this boot
	Message  string          `json:"message,omitempty"`
	Error    *Failure        `json:"error,omitempty"`
	Stages   []Entry         `json:"stages"`
}

// Event is one thing that happened.
type Event struct {
	Time    time.Time       `json:"time"`
	MAC     string          `json:"mac"`
	Name    string          `json:"name,omitempty"`
	Source  Source          `json:"source"`
	Stage   bootstage.Stage `json:"stage,omitempty"`
	Message string          `json:"message,omitempty"`
	Error   string          `json:"error,omitempty"`
}

// Registry is all nodes. It may be used by several goroutines.
type Registry struct {
	now    func() time.Time
	mu     sync.Mutex
	nodes  map[string]*node
	byAddr map[netip.Addr]*node
	others *list.List // of *node, those seen last in front
	events []Event    // a ring
	next   int
	dirty  bool
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
	n := r.find(s)
	if n == nil {
		return "", "", false
	}
	now := r.now().UTC()
	r.dirty = true
	if s.Fresh || n.s.Boots == 0 {
		n.s = Status{MAC: n.s.MAC, Name: n.s.Name, Group: n.s.Group, Listed: n.s.Listed, IP: n.s.IP, Boots: n.s.Boots + 1, Error: n.s.Error, Stages: []Entry{}}
	}
	n.s.Last = now
	n.s.Bytes += s.Bytes
	n.s.Platform = cmp.Or(s.Platform, n.s.Platform)
	r.bind(n, s.Addr)
	if s.Stage != "" && s.Error == "" {
		n.enter(s.Stage, now, s.Message)
	}
	if s.Error != "" {
		n.s.Error = &Failure{Stage: cmp.Or(s.Stage, n.s.Stage), Time: now, Text: s.Error}
	}
	r.note(Event{Time: now, MAC: n.s.MAC, Name: n.s.Name, Source: s.Source, Stage: s.Stage, Message: s.Message, Error: s.Error})
	return n.s.MAC, n.s.Name, true
}

// enter puts a node into a stage. A stage that it is in, or was in before, keeps the time of the first; an error is over when a later
// stage is reached.
func (n *node) enter(stage bootstage.Stage, now time.Time, message string) {
	if n.s.Stage != stage {
		n.s.Stage, n.s.Since = stage, now
	}
	n.s.Message = message
	if e := n.s.Error; e != nil && e.Stage.Before(stage) && stage != bootstage.Rescue {
		n.s.Error = nil
	}
	if slices.ContainsFunc(n.s.Stages, func(e Entry) bool { return e.Stage == stage }) {
		return
	}
	first := now
	if len(n.s.Stages) > 0 {
		first = n.s.Stages[0].Time
	}
	n.s.Stages = append(n.s.Stages, Entry{Stage: stage, Time: now, Seconds: now.Sub(first).Seconds()})
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

// Stage gives the stage of a node, "" when it is not known.
func (r *Registry) Stage(mac string) bootstage.Stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[mac]; n != nil {
		return n.s.Stage
	}
	return ""
}

// Who gives the MAC of the node at an address, as far as it is known.
func (r *Registry) Who(a netip.Addr) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.byAddr[a]; n != nil {
		return n.s.MAC, true
	}
	return "", false
}

// All gives every node, listed ones first, by name and MAC.
func (r *Registry) All() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Status, 0, len(r.nodes))
	for _, n := range r.nodes {
		s := n.s
		s.Stages = slices.Clone(s.Stages)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int {
		if a.Listed != b.Listed {
			if a.Listed {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.MAC, b.MAC))
	})
	return all
}

// Events gives what happened lately, the oldest first; mac, unless it is empty, picks one node's.
func (r *Registry) Events(mac string) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := []Event{}
	for i := range r.events {
		e := r.events[(r.next+i)%len(r.events)]
		if mac == "" || e.MAC == mac {
			all = append(all, e)
		}
	}
	return all
}

// Count says how many nodes are in each stage; those never seen are under "".
func (r *Registry) Count() map[bootstage.Stage]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := map[bootstage.Stage]int{}
	for _, n := range r.nodes {
		count[n.s.Stage]++
	}
	return count
}
