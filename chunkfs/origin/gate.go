package origin

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// gate holds each class of fetches to its number, lets the more urgent pass first, and the background to what they leave.
type gate struct {
	bandwidth *rate.Limiter // nil: no cap

	mu     sync.Mutex
	limit  [3]int64
	active [3]int64
	queue  [3][]chan struct{} // closed when it is a waiter's turn
	idle   chan struct{}      // closed when no Demand is at work
}

const (
	paceBytes = 64 << 10 // that the background reads at once
	// yieldTime bounds how long those bytes wait for readers: a reader that waits for a dead origin must not stop the background, and
	// a server would give up a connection on which nothing moves.
	yieldTime = 200 * time.Millisecond
)

func newGate(l Limits, bandwidth int64) *gate {
	g := &gate{limit: [3]int64{int64(l.Demand), int64(l.ReadAhead), int64(l.Background)}, idle: make(chan struct{})}
	close(g.idle)
	if bandwidth > 0 {
		g.bandwidth = rate.NewLimiter(rate.Limit(bandwidth), paceBytes)
	}
	return g
}

// enter waits for a turn. A fetch that is raised meanwhile waits as one of Demand. It gives the class that leave must be told.
func (g *gate) enter(ctx context.Context, c Class, raise <-chan struct{}) (Class, error) {
	turn := g.ask(c)
	select {
	case <-turn:
		return c, nil
	case <-raise:
		if c != Demand && g.forget(c, turn) {
			return g.enter(ctx, Demand, nil)
		}
		return c, nil
	case <-ctx.Done():
		if !g.forget(c, turn) {
			g.leave(c)
		}
		return c, ctx.Err()
	}
}

func (g *gate) ask(c Class) chan struct{} {
	turn := make(chan struct{})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue[c] = append(g.queue[c], turn)
	g.dispatch()
	return turn
}

// forget takes a waiter back; false: it is its turn already.
func (g *gate) forget(c Class, turn chan struct{}) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.queue[c], turn)
	if i < 0 {
		return false
	}
	g.queue[c] = slices.Delete(g.queue[c], i, i+1)
	return true
}

func (g *gate) leave(c Class) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count(c, -1)
	g.dispatch()
}

// raise makes a fetch at work one of Demand. It does not wait: what is under way costs nothing more.
func (g *gate) raise(from Class) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count(from, -1)
	g.count(Demand, 1)
	g.dispatch()
}

func (g *gate) dispatch() {
	for c := range g.queue {
		for len(g.queue[c]) > 0 && g.active[c] < g.limit[c] {
			close(g.queue[c][0])
			g.queue[c] = g.queue[c][1:]
			g.count(Class(c), 1)
		}
		if c == int(Demand) && len(g.queue[c]) > 0 {
			return
		}
	}
}

func (g *gate) count(c Class, by int64) {
	was := g.active[Demand]
	g.active[c] += by
	switch now := g.active[Demand]; {
	case was == 0 && now > 0:
		g.idle = make(chan struct{})
	case was > 0 && now == 0:
		close(g.idle)
	}
}

// pace lets the background read up to n bytes: when its bandwidth allows, and readers do not wait, for long. urgent ends it.
func (g *gate) pace(ctx context.Context, n int, urgent <-chan struct{}) int {
	n = min(n, paceBytes)
	g.mu.Lock()
	idle := g.idle
	g.mu.Unlock()
	pause(ctx, yieldTime, idle, urgent)
	if g.bandwidth != nil {
		pause(ctx, g.bandwidth.ReserveN(time.Now(), n).Delay(), urgent)
	}
	return n
}

// pause waits for d, or until ctx or one of ends ends.
func pause(ctx context.Context, d time.Duration, ends ...<-chan struct{}) {
	if d <= 0 {
		return
	}
	var end [2]<-chan struct{}
	copy(end[:], ends)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-end[0]:
	case <-end[1]:
	}
}
