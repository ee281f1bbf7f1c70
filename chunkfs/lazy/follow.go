package lazy

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// shared is the name of a chunk among devices.
func (d *Device) shared(chunk uint32) sharedChunk {
	c := sharedChunk{sum: format.Digest{Algorithm: d.index.Algorithm, Sum: d.index.Chunks[chunk].Sum}}
	if !d.cfg.Verify {
		c.unverified = d.image
	}
	return c
}

// lead gives the flights, of a run that is about to begin, that this device has to fetch. Others trail, or have come since they were
// found to be missing; what is on both sides of those is two runs, so that they are not fetched as a gap. Device.mu is held.
func (d *Device) lead(flights []*flight) (runs [][]*flight) {
	s := d.cfg.Sharing
	if s == nil {
		return [][]*flight{flights}
	}
	var here []*flight
	goesOn := false
	for k, f := range flights {
		mine := false
		switch {
		case s.claim(f, d.shared(f.chunk)):
			d.trail(f)
		case d.arrived(f.chunk): // asked when nobody else can be about to bring it
			here = append(here, f)
		default:
			mine = true
		}
		if last := len(runs) - 1; mine && goesOn {
			runs[last] = append(runs[last], f)
		} else if mine {
			runs = append(runs, flights[k:k+1:k+1])
		}
		goesOn = mine
	}
	if len(here) > 0 {
		d.work.Go(func() { d.pickUp(here) })
	}
	return runs
}

// trail has a flight wait for its lead, which is of another device, for a while. Device.mu is held.
func (d *Device) trail(f *flight) {
	s, l := d.cfg.Sharing, f.follows
	if len(f.claims) > 0 {
		s.hurry(l)
	}
	f.patience = time.AfterFunc(s.patience, func() { d.resume([]orphan{{f, l, true}}) })
}

// pickUp copies what has come to where it is wanted; what cannot be copied is fetched after all.
func (d *Device) pickUp(flights []*flight) {
	rest := d.local(flights)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, group := range d.groups(rest, maxAhead) {
		d.launch(group, group[0].class)
	}
}

// othersFetch says whether another device fetches a chunk that this one does not. Device.mu is held.
func (d *Device) othersFetch(chunk uint32) bool {
	return d.cfg.Sharing != nil && d.cfg.Sharing.has(d.shared(chunk))
}

// othersFetchAll is that for flights that have not begun.
func (d *Device) othersFetchAll(flights []*flight) bool {
	return !slices.ContainsFunc(flights, func(f *flight) bool { return !d.othersFetch(f.chunk) })
}

// orphan is a flight whose lead has ended, of another device than the flight is.
type orphan struct {
	*flight
	of    *lead
	alone bool // it failed: another one is not waited for
}

// part ends what a flight that is settled has to do with other devices. Those that trail it go on by themselves, unless it has something
// to hand on. Device.mu is held.
func (d *Device) part(f *flight, err error) {
	if f.patience != nil {
		f.patience.Stop()
	}
	if f.follows != nil {
		d.cfg.Sharing.leave(f)
	}
	if f.leads == nil {
		return
	}
	behind := d.cfg.Sharing.end(f.leads)
	if f.kept {
		f.behind = behind
		return
	}
	failed := err != nil && !errors.Is(err, context.Canceled) && !d.closed
	begin := len(d.orphans) == 0
	for _, g := range behind {
		d.orphans = append(d.orphans, orphan{g, f.leads, failed})
	}
	// Those of one run end together: they go on together, in few requests.
	if begin && len(behind) > 0 {
		d.work.Go(d.dismiss)
	}
}

// dismiss has the orphans that there are go on by themselves.
func (d *Device) dismiss() {
	d.mu.Lock()
	orphans := d.orphans
	d.orphans = nil
	d.mu.Unlock()
	by := map[*Device][]orphan{}
	for _, o := range orphans {
		by[o.device] = append(by[o.device], o)
	}
	for other, orphans := range by {
		other.resume(orphans)
	}
}

// resume begins flights that have trailed, unless they have found another way.
func (d *Device) resume(orphans []orphan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var flights []*flight
	for _, o := range orphans {
		if o.done || o.follows != o.of {
			continue
		}
		d.cfg.Sharing.leave(o.flight)
		o.patience.Stop()
		o.flight.alone = o.alone
		flights = append(flights, o.flight)
	}
	for _, group := range d.groups(flights, maxAhead) {
		class := group[0].class
		if slices.ContainsFunc(group, func(f *flight) bool { return len(f.claims) > 0 }) {
			class = origin.Demand
		}
		d.begin(group, class)
	}
}

// handOn gives the plain bytes of a flight that is settled to those that trailed it.
func (f *flight) handOn(plain []byte, verified bool) {
	d := f.device
	d.mu.Lock()
	behind := f.behind
	f.behind = nil
	d.mu.Unlock()
	for _, g := range behind {
		if !g.device.accept(g, plain, verified) {
			g.device.resume([]orphan{{g, f.leads, true}})
		}
	}
}

// accept keeps what another device has fetched. It refuses what does not have the size that this image has it of: one of the two is wrong.
func (d *Device) accept(f *flight, plain []byte, verified bool) bool {
	if int64(d.index.Chunks[f.chunk].Size) != int64(len(plain)) {
		return false
	}
	d.mu.Lock()
	done := f.done
	if !done {
		d.work.Add(1) // Close waits: the image is in use
	}
	d.mu.Unlock()
	if !done {
		defer d.work.Done()
		d.counters.shared.Add(int64(len(plain)))
		d.keep(f, plain, verified)
	}
	return true
}
