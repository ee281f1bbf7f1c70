package lazy

import (
	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// The queues of what nobody waits for, the most urgent first.
const (
	ofStreams = iota
	ofTrace
	ofComplete
)

const (
	parallelBackground = 2   // requests of Complete at once
	lowBackground      = 256 // flights of Complete; it goes on when there are fewer
)

// pump begins runs from the queues as far as their turn has come. It is called whenever something was queued or has ended, with Device.mu
// held.
func (d *Device) pump() {
	if d.closed {
		return
	}
	for d.begun[origin.ReadAhead] < d.cfg.Parallel {
		f := d.pop(ofStreams)
		if f == nil {
			f = d.pop(ofTrace)
		}
		if f == nil {
			break
		}
		d.begin(d.extend([]*flight{f}, maxAhead), origin.ReadAhead)
	}
	for d.begun[origin.Background] < d.turnOfBackground() {
		f := d.pop(ofComplete)
		if f == nil {
			break
		}
		d.begin(d.extend([]*flight{f}, maxAhead), origin.Background)
	}
}

// drain wakes Complete.
func (d *Device) drain() {
	select {
	case d.drained <- struct{}{}:
	default:
	}
}

// turnOfBackground says how many requests there may be for Complete: while a reader waits a single one, so that it does not stand still
// under load, and none while something is fetched ahead.
func (d *Device) turnOfBackground() int {
	switch {
	case d.begun[origin.ReadAhead] > 0:
		return 0
	case d.begun[origin.Demand] > 0:
		return 1
	}
	return parallelBackground
}

// pop takes the next flight from a queue that has not begun otherwise. Device.mu is held.
func (d *Device) pop(queue int) *flight {
	q := d.queues[queue]
	for len(q) > 0 {
		f := q[0]
		q[0] = nil
		q = q[1:]
		if !f.started && !f.done {
			f.started = true
			d.queues[queue] = q
			return f
		}
	}
	d.queues[queue] = nil
	return nil
}

// enqueue wants extents without a reader, and begins what can be begun.
func (d *Device) enqueue(queue int, extents []int, t *tally) {
	var late []int
	d.mu.Lock()
	for _, i := range extents {
		if d.closed || d.arrived(d.index.Extents[i].Chunk) {
			t.skip(int64(d.index.Chunks[d.index.Extents[i].Chunk].Stored))
			late = append(late, i)
		} else {
			d.want(queue, i, t)
		}
	}
	d.pump()
	d.mu.Unlock()
	for _, i := range late {
		d.fetchable(i, cache.Spare) // it is copied from where it has come, which hardly ever fails
	}
}

// arrived says that a chunk has come since it was found to be missing, at one extent or another.
func (d *Device) arrived(chunk uint32) bool {
	for i := range d.image.Extents(chunk) {
		if d.image.State(i) != cache.Missing {
			return true
		}
	}
	return false
}

func (d *Device) want(queue, i int, t *tally) {
	f := d.flight(d.index.Extents[i].Chunk, i)
	if t != nil {
		f.tallies = append(f.tallies, t)
	}
	if queue == ofComplete && !f.complete {
		f.complete = true
		d.completing++
	}
	if f.started || f.ahead && f.queue <= queue {
		f.ahead = true
		return
	}
	f.ahead, f.queue = true, queue
	d.queues[queue] = append(d.queues[queue], f)
}

// fetchable brings an extent that nobody holds as far as it can be brought without an origin, and says whether it needs one.
func (d *Device) fetchable(i int, u cache.Urgency) bool {
	if d.index.Extents[i].Chunk == format.Zero {
		d.check(i)
		return false
	}
	if s := d.image.State(i); s != cache.Missing {
		if s == cache.Good || d.check(i) == cache.Good {
			return false
		}
	}
	buf := <-d.slots
	defer func() { d.slots <- buf }()
	plain := d.image.Elsewhere(i, buf[:0])
	if plain == nil {
		return true
	}
	buf = plain
	d.counters.shared.Add(int64(len(plain)))
	return d.image.Fill(i, plain, true, u) != nil
}

func (d *Device) check(i int) cache.State {
	d.image.Hold(i)
	defer d.image.Drop(i)
	return d.image.Check(i)
}
