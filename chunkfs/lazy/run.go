package lazy

import (
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// What makes one request of several chunks.
const (
	maxGap    = 64 << 10 // stored bytes between two chunks that are fetched for nothing rather than by a second request
	maxDemand = 4 << 20  // stored bytes of a request for a reader
	maxAhead  = 1 << 20  // and of one ahead: small, so that several share the line, and a reader waits for none of them long
)

// run is flights that one request brings. What changes is Device.mu's.
type run struct {
	flights []*flight // by offset in the pack
	class   origin.Class
	ctx     context.Context
	cancel  context.CancelFunc
	open    int // flights that have not been settled
	meter   meter
	raise   chan struct{} // closed when a reader has come to wait for one of them
	hurry   func()        // closes it: the run becomes as urgent as one that a reader began
}

// local brings what the cache has elsewhere, and gives the flights for which it has not.
func (d *Device) local(flights []*flight) []*flight {
	if len(flights) == 0 {
		return nil
	}
	buf := <-d.slots
	defer func() { d.slots <- buf }()
	rest := flights[:0]
	for _, f := range flights {
		at := d.missing(f)
		if at < 0 {
			continue
		}
		plain := d.image.Elsewhere(at, buf[:0])
		if plain == nil {
			rest = append(rest, f)
			continue
		}
		buf = plain
		d.counters.shared.Add(int64(len(plain)))
		d.keep(f, plain, true)
	}
	return rest
}

// missing is one of the extents where a flight's chunk is wanted and is not yet. When there are none it settles the flight, and is -1.
func (d *Device) missing(f *flight) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, i := range f.extents {
		if !d.usable(d.image.State(i)) {
			return i
		}
	}
	if !f.done {
		d.settle(f, nil)
	}
	return -1
}

// fly begins to fetch for a reader.
func (d *Device) fly(flights []*flight, w *wait) {
	if len(flights) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	groups := d.groups(flights, maxDemand)
	for k, group := range groups {
		run := d.extend(group, maxDemand)
		if k == len(groups)-1 && !d.othersFetchAll(run) {
			run = d.along(run, w)
		}
		d.begin(run, origin.Demand)
	}
	d.pump()
}

// groups puts flights that can make one run together, of so many stored bytes at most. Those that are done drop out.
func (d *Device) groups(flights []*flight, most int64) (groups [][]*flight) {
	flights = slices.DeleteFunc(flights, func(f *flight) bool { return f.done })
	slices.SortFunc(flights, func(a, b *flight) int {
		x, y := d.index.Chunks[a.chunk], d.index.Chunks[b.chunk]
		return cmp.Or(cmp.Compare(x.Pack, y.Pack), cmp.Compare(x.Offset, y.Offset))
	})
	for len(flights) > 0 {
		n := 1
		for n < len(flights) && d.near(flights[0].chunk, flights[n-1].chunk, flights[n].chunk, most) {
			n++
		}
		groups = append(groups, flights[:n:n])
		flights = flights[n:]
	}
	return groups
}

// near says whether the run from chunk first to chunk last may go on to chunk next: close behind it in the same pack.
func (d *Device) near(first, last, next uint32, most int64) bool {
	a, b, c := &d.index.Chunks[first], &d.index.Chunks[last], &d.index.Chunks[next]
	end := int64(b.Offset) + int64(b.Stored)
	return c.Pack == b.Pack && int64(c.Offset) >= end && int64(c.Offset)-end <= maxGap &&
		int64(c.Offset)+int64(c.Stored)-int64(a.Offset) <= most
}

// extend adds to a run what is queued right behind it and right before it. Builders number chunks as they lie in packs; where one does
// not, runs are shorter. Device.mu is held.
func (d *Device) extend(flights []*flight, most int64) []*flight {
	first, last := flights[0].chunk, flights[len(flights)-1].chunk
	for c := last + 1; int(c) < len(d.index.Chunks) && d.near(first, last, c, most); c++ {
		if f := d.queued(c); f != nil {
			flights, last = append(flights, f), c
		}
	}
	var before []*flight
	for c := int64(first) - 1; c >= 0 && d.near(uint32(c), uint32(c), first, most) && d.within(uint32(c), last, most); c-- {
		if f := d.queued(uint32(c)); f != nil {
			before, first = append(before, f), uint32(c)
		}
	}
	slices.Reverse(before)
	return append(before, flights...)
}

// within says whether the chunks from first to last, of one pack, lie in so many bytes.
func (d *Device) within(first, last uint32, most int64) bool {
	a, b := &d.index.Chunks[first], &d.index.Chunks[last]
	return int64(b.Offset)+int64(b.Stored)-int64(a.Offset) <= most
}

// queued takes the flight of a chunk out of its queue, if it is in one. Device.mu is held.
func (d *Device) queued(chunk uint32) *flight {
	f := d.flights[chunk]
	if f == nil || f.started {
		return nil
	}
	f.started = true
	return f
}

// begin starts what flights need to come: a run, or several where others fetch what lies in between. Device.mu is held.
func (d *Device) begin(flights []*flight, class origin.Class) {
	if d.closed {
		return // they have been settled
	}
	for _, f := range flights {
		f.class = class
	}
	for _, run := range d.lead(flights) {
		d.launch(run, class)
	}
}

// launch starts a run. Device.mu is held.
func (d *Device) launch(flights []*flight, class origin.Class) {
	if d.closed {
		return
	}
	r := &run{flights: flights, class: class, open: len(flights), raise: make(chan struct{})}
	r.hurry = sync.OnceFunc(func() { close(r.raise) })
	r.ctx, r.cancel = context.WithCancel(d.ctx)
	for _, f := range flights {
		if f.run = r; len(f.claims) > 0 {
			r.hurry()
		}
		if f.leads != nil {
			d.cfg.Sharing.took(f.leads, r)
		}
	}
	d.begun[class]++
	d.counters.requests.Add(1)
	d.work.Go(func() { d.fetch(r) })
}
