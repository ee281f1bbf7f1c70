package chain

import (
	"context"
	"sync"
	"time"

	"github.com/go-openapi/strfmt"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// keepEvents is how many events are kept for readers that come back; more are answered with a gap.
const keepEvents = 4096

// GapEvent is the type of the event that stands for events that are no longer kept.
const GapEvent = "gap"

// bus hands out events. A reader has no queue of its own: it reads from the ring at its own pace, so a slow one costs nothing and is
// told of the gap when the ring has overtaken it.
type bus struct {
	mu    sync.Mutex
	ring  []*models.Event // oldest first, ids without gaps
	last  int64           // id of the newest event; on start, of the last that an earlier daemon may have given
	next  chan struct{}   // closed when there is more
	limit int
	// gave learns of every number given, so that none is given again after a crash. It must not wait.
	gave func(id int64)
}

func newBus(last int64, gave func(int64)) *bus {
	return &bus{last: last, next: make(chan struct{}), limit: keepEvents, gave: gave}
}

// publish numbers and keeps an event and wakes the readers. The event is not changed afterwards.
func (b *bus) publish(e *models.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.gave(b.last)
	e.ID, e.Time = b.last, strfmt.DateTime(time.Now().UTC())
	if len(b.ring) >= b.limit {
		b.ring = append(b.ring[:0:0], b.ring[b.limit/4:]...)
	}
	b.ring = append(b.ring, e)
	close(b.next)
	b.next = make(chan struct{})
}

// after gives what is kept after since, where reading goes on, and a channel that is closed when there is more.
func (b *bus) after(since int64) (events []*models.Event, last int64, more <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if since > b.last { // a number from nowhere: all that is kept may be new to the reader
		since = 0
	}
	oldest := b.last + 1
	if len(b.ring) > 0 {
		oldest = b.ring[0].ID
	}
	if since+1 < oldest {
		events = append(events, b.gap(since, oldest))
		since = oldest - 1
	}
	if n := b.last - since; n > 0 {
		events = append(events, b.ring[int64(len(b.ring))-n:]...)
	}
	return events, b.last, b.next
}

func (b *bus) gap(since, oldest int64) *models.Event {
	return &models.Event{ID: oldest - 1, Time: strfmt.DateTime(time.Now().UTC()), Type: GapEvent,
		Message: "the events after " + itoa(since) + " up to " + itoa(oldest-1) + " are no longer kept: list the objects anew"}
}

// Events sends the events after since (nil: only new ones) until ctx ends, or, without follow, those that are kept.
func (c *Chain) Events(ctx context.Context, since *int64, follow bool) <-chan *models.Event {
	out := make(chan *models.Event, 16)
	at := c.bus.newest()
	if since != nil {
		at = *since
	}
	go c.bus.feed(ctx, out, at, follow)
	return out
}

func (b *bus) newest() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *bus) feed(ctx context.Context, out chan<- *models.Event, at int64, follow bool) {
	defer close(out)
	for {
		events, last, more := b.after(at)
		for _, e := range events {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
		if at = last; !follow {
			return
		}
		select {
		case <-more:
		case <-ctx.Done():
			return
		}
	}
}
