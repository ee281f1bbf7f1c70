package nodes

import (
	"cmp"
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// sameInit is how far apart two reports of one start of init may seem to be: one may be sent twice.
const sameInit = 5 * time.Second

// restarted reports whether init began anew, which shows that the node was switched on where its DHCP is another server's.
func (n *node) restarted(s Seen, at time.Time) bool {
	if s.Source != Report || s.Stage != bootstage.Init || s.State != bootstage.Begun {
		return false
	}
	i := n.entry(bootstage.Init)
	return i >= 0 && at.Sub(n.s.Stages[i].Time) > sameInit
}

func (n *node) entry(stage bootstage.Stage) int {
	return slices.IndexFunc(n.s.Stages, func(e Entry) bool { return e.Stage == stage })
}

// enter notes that a node was in a stage, and how, at a time. What is older than what is known goes into the list alone; what fails counts
// for the stage that the node is in; an error is over when its stage is done or a later one is reached.
func (n *node) enter(s Seen, at time.Time) {
	state := cmp.Or(s.State, bootstage.Done)
	if len(n.s.Stages) > 0 && at.Before(n.s.Stages[0].Time) {
		at = n.s.Stages[0].Time
	}
	if state == bootstage.Failed && n.s.Stage != s.Stage {
		return
	}
	at, overtaken := n.list(s, state, at)
	if n.s.Stage != s.Stage && (overtaken || at.Before(n.s.Since)) {
		return
	}
	if n.s.Stage != s.Stage || n.s.State != state {
		n.s.Stage, n.s.State, n.s.Since = s.Stage, state, at
	}
	if state == bootstage.Failed {
		return
	}
	n.s.Message = s.Message
	e := n.s.Error
	if e != nil && (e.Stage.Before(s.Stage) || e.Stage == s.Stage && state == bootstage.Done) && s.Stage != bootstage.Rescue {
		n.s.Error = nil
	}
}

// list puts a stage into the list, which is in the order of time. One that is there keeps the time of the first, and its first end; but
// what servers send may be several files. It gives the time that the stage has there, and whether a later one was there already.
func (n *node) list(s Seen, state bootstage.State, at time.Time) (time.Time, bool) {
	i := n.entry(s.Stage)
	added := i < 0
	if added {
		i, at = n.slot(s.Stage, at)
		first := at
		if i > 0 {
			first = n.s.Stages[0].Time
		}
		n.s.Stages = slices.Insert(n.s.Stages, i, Entry{Stage: s.Stage, Time: at, Seconds: at.Sub(first).Seconds()})
	}
	e := &n.s.Stages[i]
	if at.Before(e.Time) {
		at = e.Time
	}
	if e.State = state; state == bootstage.Done && (e.Ended.IsZero() || s.Source != Report) {
		e.Ended = at
	}
	return at, added && i < len(n.s.Stages)-1
}

// jitter is how far apart the times of two things may seem to be in the wrong order: when a node began a stage is counted back from when its
// report came, which takes a while on a machine or a network that is busy.
const jitter = 2 * time.Second

// slot says where in the list a new stage goes, and with which time. Stages that are about as late are in their order, and none is earlier than
// the one before it.
func (n *node) slot(stage bootstage.Stage, at time.Time) (int, time.Time) {
	list := n.s.Stages
	i := len(list)
	for i > 0 && at.Before(list[i-1].Time) {
		i--
	}
	if stage == bootstage.Rescue { // it may come at any time
		return i, at
	}
	for i < len(list) && list[i].Stage.Before(stage) && list[i].Time.Sub(at) <= jitter {
		at = list[i].Time
		i++
	}
	for i > 0 && stage.Before(list[i-1].Stage) && list[i-1].Stage != bootstage.Rescue && at.Sub(list[i-1].Time) <= jitter {
		at = list[i-1].Time
		i--
	}
	return i, at
}

// Took gives how long the boot took until the stage that the node reached last, its end where that is known.
func (s Status) Took() time.Duration {
	k := len(s.Stages)
	if k == 0 {
		return 0
	}
	last := s.Stages[k-1]
	end := last.Time
	if last.Ended.After(end) {
		end = last.Ended
	}
	return end.Sub(s.Stages[0].Time)
}
