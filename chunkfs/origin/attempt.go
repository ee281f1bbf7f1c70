package origin

import (
	"context"
	"fmt"
	"sync/atomic"
)

// attempt is one request to one origin.
type attempt struct {
	site      *site
	fresh     bool
	race      *race
	ctx       context.Context //nolint:containedctx // of this one attempt
	cancel    context.CancelFunc
	moved     atomic.Int64 // bytes of its body
	seen      int64        // moved, when it was last looked at
	slow      bool         // too little had come at that time
	busy      atomic.Bool  // what has come is being taken
	finishing atomic.Bool  // all is there, only the end of the answer is not; ends by itself
}

// complete is called by an attempt that has got what was missing.
func (a *attempt) complete() {
	a.finishing.Store(true)
	a.race.winner.CompareAndSwap(nil, a.site)
	select {
	case a.race.ready <- struct{}{}:
	default:
	}
}

// idle says that too little has come since the last look.
func (a *attempt) idle() bool {
	return !a.busy.Load() && a.moved.Load()-a.seen < a.site.set.opts.Limits.Progress
}

// pace and count make an attempt a meter.
func (a *attempt) pace(n int) int {
	if a.race.job.class != Background {
		return n
	}
	select {
	case <-a.race.urgent:
		return n
	default:
		return a.race.set.gate.pace(a.ctx, n, a.race.urgent)
	}
}

func (a *attempt) count(n int) {
	a.moved.Add(int64(n))
	a.site.bytes.Add(int64(n))
}

func afterText(n int64) string { return fmt.Sprintf("after %d bytes", n) }
