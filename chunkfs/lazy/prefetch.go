package lazy

import (
	"sync/atomic"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// prefetch is what Replay and Complete are at. Its fields are Device.mu's.
type prefetch struct {
	state string
	trace *tally
	full  time.Time // when the cache last had no room
}

// replaying says that a trace is being replayed.
func (p *prefetch) replaying() bool {
	return p.trace != nil && p.trace.over.Load() < p.trace.total.Load()
}

// tally is how far something is, in stored bytes.
type tally struct {
	total, done, over atomic.Int64 // over: done, or given up
}

func (t *tally) skip(n int64) {
	if t != nil {
		t.done.Add(n)
		t.over.Add(n)
	}
}

// replayBatch is how many chunks of a trace are queued at once: enough for requests to find their neighbours.
const replayBatch = 512

// completeBatch is the same for Complete.
const completeBatch = 64

// Replay fetches what a trace names, in its order, ahead of readers. It returns at once; chunks that the image does not have are passed
// over.
func (d *Device) Replay(tr *format.Trace) {
	t := &tally{}
	seen := map[uint32]bool{}
	var extents []int
	for _, sum := range tr.Chunks {
		chunk, ok := d.image.Chunk(sum)
		if !ok || seen[chunk] {
			continue
		}
		seen[chunk] = true
		for i := range d.image.Extents(chunk) {
			extents = append(extents, i)
			t.total.Add(int64(d.index.Chunks[chunk].Stored))
			break
		}
	}
	d.start("trace", t, func() { d.replay(extents, t) })
}

// start begins a prefetch, unless the device is closed.
func (d *Device) start(state string, t *tally, work func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	if d.prefetch.state != "all" {
		d.prefetch.state = state
	}
	if t != nil {
		d.prefetch.trace = t
	}
	d.work.Go(work)
}

func (d *Device) replay(extents []int, t *tally) {
	for len(extents) > 0 && d.ctx.Err() == nil {
		n := min(len(extents), replayBatch)
		var need []int
		for _, i := range extents[:n] {
			if d.fetchable(i, cache.Wanted) {
				need = append(need, i)
			} else {
				t.skip(int64(d.index.Chunks[d.index.Extents[i].Chunk].Stored))
			}
		}
		d.enqueue(ofTrace, need, t)
		extents = extents[n:]
	}
}

// pauseComplete is how long Complete rests when it could not go on: there was no room, or the origins did not have it.
const pauseComplete = 10 * time.Second

// Complete fetches all that is missing in the background, in the order of the device, after what Replay has begun. It returns at once.
func (d *Device) Complete() {
	d.start("all", nil, d.complete)
}

func (d *Device) complete() {
	for !d.pass() {
		select {
		case <-d.ctx.Done():
			return
		case <-time.After(pauseComplete):
		}
	}
	if d.ctx.Err() == nil {
		d.log.Info("image is complete in the chunk cache; its origins are not needed any more")
	}
}

// pass goes once along the device, and says whether all is there then, or the device is closed.
func (d *Device) pass() bool {
	var need []int
	for i := range d.index.Extents {
		if d.ctx.Err() != nil {
			return true
		}
		if d.image.State(i) == cache.Good || !d.fetchable(i, cache.Spare) {
			continue
		}
		if !d.image.Room(d.index.Extents[i].Size) {
			d.noRoom()
			break
		}
		if need = append(need, i); len(need) == completeBatch {
			d.enqueue(ofComplete, need, nil)
			need = nil
			d.awaitBackground(lowBackground)
		}
	}
	d.enqueue(ofComplete, need, nil)
	d.awaitBackground(1)
	return d.image.Complete() || d.ctx.Err() != nil
}

// Full reports whether the cache has ever had no room for a chunk of the image.
func (d *Device) Full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.prefetch.full.IsZero()
}

func (d *Device) noRoom() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.prefetch.full = time.Now()
}

// awaitBackground waits until fewer flights than that are queued or on their way for Complete.
func (d *Device) awaitBackground(fewer int) {
	for {
		d.mu.Lock()
		n := d.completing
		d.mu.Unlock()
		if n < fewer {
			return
		}
		select {
		case <-d.ctx.Done():
			return
		case <-d.drained:
		}
	}
}

// progress is what Stats shows.
func (d *Device) progress() Prefetch {
	d.mu.Lock()
	state, t := d.prefetch.state, d.prefetch.trace
	d.mu.Unlock()
	p := Prefetch{State: state}
	switch {
	case state == "all":
		p.Total = d.image.Manifest().Stored
		p.Done = p.Total
		if size := d.image.Size(); size > 0 {
			p.Done = int64(float64(p.Total) * float64(d.image.Cached()) / float64(size))
		}
		if d.image.Complete() {
			p.State = "done"
		}
	case t != nil:
		p.Total, p.Done = t.total.Load(), t.done.Load()
		if t.over.Load() == p.Total {
			p.State = "done"
		}
	}
	return p
}
