package lazy

import (
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// flight is a chunk on its way into the cache. Its fields are Device.mu's.
type flight struct {
	device   *Device
	chunk    uint32
	extents  []int   // where it is wanted
	claims   []claim // who waits for it
	ahead    bool    // it is wanted without a reader
	started  bool    // else it is in a queue
	queue    int     // in which
	class    origin.Class
	run      *run // that brings it, or nil
	done     bool
	kept     bool     // its bytes are in the cache or with its readers
	complete bool     // Complete waits for it
	tallies  []*tally // that it counts for

	// What it has to do with flights of the same chunk in other devices.
	leads, follows *lead
	alone          bool        // it does not follow
	patience       *time.Timer // while it follows
	behind         []*flight   // those that its bytes are to be handed on to
}

// claim is a reader that wants the chunk at an extent.
type claim struct {
	by *wait
	at int
}

// flight finds or makes the flight of a chunk, to be put at extent i. Device.mu is held.
func (d *Device) flight(chunk uint32, i int) *flight {
	f := d.flights[chunk]
	if f == nil {
		f = &flight{device: d, chunk: chunk}
		d.flights[chunk] = f
	}
	if !slices.Contains(f.extents, i) {
		f.extents = append(f.extents, i)
	}
	return f
}

// claim adds a reader. It says whether the reader is to begin the flight.
func (f *flight) claim(w *wait, i int) bool {
	f.claims = append(f.claims, claim{w, i})
	w.left++
	w.on = append(w.on, f)
	if f.run != nil {
		f.run.hurry()
	}
	if f.follows != nil {
		f.device.cfg.Sharing.hurry(f.follows)
	}
	begin := !f.started
	f.started = true
	return begin
}

func (f *flight) disclaim(w *wait) {
	f.claims = slices.DeleteFunc(f.claims, func(c claim) bool { return c.by == w })
}

// settle ends a flight: what it brought is in the cache or with the readers, or err says why not. Device.mu is held.
func (d *Device) settle(f *flight, err error) {
	f.done = true
	delete(d.flights, f.chunk)
	d.counters.givenUp(err)
	d.part(f, err)
	if r := f.run; r != nil {
		if r.open--; r.open == 0 {
			r.cancel() // nobody wants the rest of it, if there is one
		}
	}
	for _, c := range f.claims {
		c.by.landed(err)
	}
	for _, t := range f.tallies {
		stored := int64(d.index.Chunks[f.chunk].Stored)
		t.over.Add(stored)
		if err == nil {
			t.done.Add(stored)
		}
	}
	if f.complete {
		if d.completing--; d.completing < lowBackground {
			d.drain()
		}
	}
}
