package lazy

import (
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// along adds to a run for a reader what lies behind it on the device and in the pack, and is likely to be wanted soon: the reader has
// what it waits for first, and one request costs less than the next miss. Device.mu is held.
func (d *Device) along(flights []*flight, w *wait) []*flight {
	if d.prefetch.replaying() || d.cfg.ReadAhead < 0 || time.Since(d.prefetch.full) < pauseFull {
		return flights
	}
	budget := min(d.line.window(), d.cfg.ReadAhead)
	first, last := flights[0].chunk, flights[len(flights)-1]
	from := last.extents[len(last.extents)-1] + 1
	at, to, end, plain := last.chunk, from, from, int64(0)
	for ; to < len(d.index.Extents) && budget > 0 && plain < 4*mostAlong; to++ {
		x := d.index.Extents[to]
		if x.Chunk == format.Zero {
			continue
		}
		plain += x.Size
		if !d.near(first, at, x.Chunk, maxDemand) || d.image.State(to) != cache.Missing || d.image.Known(x.Chunk) {
			continue
		}
		f := d.flights[x.Chunk]
		if f != nil && f.started {
			continue
		}
		f = d.flight(x.Chunk, to)
		f.started, f.ahead = true, true
		flights, at, end = append(flights, f), x.Chunk, to+1
		stored := int64(d.index.Chunks[x.Chunk].Stored)
		budget -= stored
		d.line.along += stored
		d.marks[x.Chunk].Or(markAlong)
	}
	if s := w.stream; s != nil && s.next == from && s.ahead < end {
		s.from, s.ahead = from, end
	}
	return flights
}
