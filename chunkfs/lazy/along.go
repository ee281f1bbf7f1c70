package lazy

import (
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// along adds to a run for a reader what lies behind it on the device and in the pack, and is likely to be wanted soon: the reader has
// what it waits for first, and one request costs less than the next miss. Where that is here already, some of what lies before it comes
// along in its place: small, since the reader waits for that too. Device.mu is held.
func (d *Device) along(flights []*flight, w *wait) []*flight {
	if d.prefetch.replaying() || d.cfg.ReadAhead < 0 || time.Since(d.prefetch.full) < pauseFull {
		return flights
	}
	budget := min(d.line.window(), d.cfg.ReadAhead)
	behind, left, end := d.neighbours(flights, 1, budget)
	if s := w.stream; s != nil && s.next == flights[len(flights)-1].extents[0]+1 && s.ahead < end {
		s.from, s.ahead = s.next, end
	}
	flights = append(flights, behind...)
	before, _, _ := d.neighbours(flights, -1, min(left, budget/4))
	slices.Reverse(before)
	return append(before, flights...)
}

// neighbours begins the flights of missing chunks behind a run (step 1) or before it (step -1), of so many stored bytes. It tells what is
// left of those and where the last one ends. Device.mu is held.
func (d *Device) neighbours(run []*flight, step int, bytes int64) (more []*flight, left int64, end int) {
	at := run[0]
	if step > 0 {
		at = run[len(run)-1]
	}
	first, last := run[0].chunk, run[len(run)-1].chunk
	plain := int64(0)
	for i := at.extents[0] + step; i >= 0 && i < len(d.index.Extents) && bytes > 0 && plain < 4*mostAlong; i += step {
		x := d.index.Extents[i]
		plain += x.Size
		if x.Chunk == format.Zero || !d.adjoins(first, last, x.Chunk, step) || !d.absent(i) {
			continue
		}
		if d.othersFetch(x.Chunk) {
			break // so are those behind it, probably
		}
		f := d.flight(x.Chunk, i)
		f.started, f.ahead = true, true
		if more = append(more, f); step > 0 {
			last, end = x.Chunk, i+1
		} else {
			first = x.Chunk
		}
		stored := int64(d.index.Chunks[x.Chunk].Stored)
		bytes -= stored
		d.line.along += stored
		d.marks[x.Chunk].Or(markAlong)
	}
	return more, bytes, end
}

// adjoins says whether a run of the chunks from first to last may take a chunk at its end, or at its beginning.
func (d *Device) adjoins(first, last, chunk uint32, step int) bool {
	if step > 0 {
		return d.near(first, last, chunk, maxDemand)
	}
	return d.near(chunk, chunk, first, maxDemand) && d.within(chunk, last, maxDemand)
}

// absent says whether an extent is missing, its chunk is nowhere else in the cache, and it is not on its way.
func (d *Device) absent(i int) bool {
	chunk := d.index.Extents[i].Chunk
	f := d.flights[chunk]
	return d.image.State(i) == cache.Missing && (f == nil || !f.started) && !d.image.Known(chunk)
}
