// Package nodes knows how far each node has come, from what the servers saw of it and what it reported.
//
// Listed nodes are always known. Of others a bounded number is remembered, those seen last: anybody on the wire can invent addresses.
package nodes

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

const (
	// maxOthers bounds the nodes that are not listed, maxEvents what happened lately.
	maxOthers = 16384
	maxEvents = 16384
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
	// Stage is what the node entered; empty when it did not. State is how it is in it; empty is Done, for what servers see has happened.
	Stage bootstage.Stage
	State bootstage.State
	// At is when it happened; the zero time is now. Reports may come late.
	At time.Time
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
	Seconds float64         `json:"seconds"`
	State   bootstage.State `json:"state,omitempty"`
	// Ended is when the stage was done, as far as the node says it.
	Ended time.Time `json:"ended,omitzero"`
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
	State    bootstage.State `json:"state,omitempty"`
	Since    time.Time       `json:"since,omitzero"` // when it entered the stage, or the state
	Last     time.Time       `json:"last,omitzero"`  // when anything was seen of it
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
	State   bootstage.State `json:"state,omitempty"`
	Message string          `json:"message,omitempty"`
	Error   string          `json:"error,omitempty"`
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
	all := r.copy()
	r.mu.Unlock() // servers wait for it
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

// copy gives every node, in no order. The caller holds mu.
func (r *Registry) copy() []Status {
	all := make([]Status, 0, len(r.nodes))
	for _, n := range r.nodes {
		s := n.s
		s.Stages = slices.Clone(s.Stages)
		all = append(all, s)
	}
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
