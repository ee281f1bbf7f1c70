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
	n.list(s, state, at)
	if at.Before(n.s.Since) && n.s.Stage != s.Stage {
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
// what servers send may be several files.
func (n *node) list(s Seen, state bootstage.State, at time.Time) {
	i := n.entry(s.Stage)
	if i < 0 {
		i = len(n.s.Stages)
		for i > 0 && at.Before(n.s.Stages[i-1].Time) {
			i--
		}
		first := at
		if i > 0 {
			first = n.s.Stages[0].Time
		}
		n.s.Stages = slices.Insert(n.s.Stages, i, Entry{Stage: s.Stage, Time: at, Seconds: at.Sub(first).Seconds()})
	}
	e := &n.s.Stages[i]
	if e.State = state; state == bootstage.Done && (e.Ended.IsZero() || s.Source != Report) {
		e.Ended = at
	}
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
