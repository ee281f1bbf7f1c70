package lazy

import (
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// stream is a reader that goes along the device, as far as can be told from what it misses. There are several at once.
type stream struct {
	end     int64  // where its last miss ended, in bytes
	next    int    // the extent after that
	window  int64  // bytes to fetch ahead; 0: it has not gone on yet
	from    int    // the window before the last one began here: it has been read by now
	ahead   int    // the last one ends here
	trigger int    // when the reader gets to this extent, more is fetched
	used    uint64 // when it was last seen, in Device.ticks; 0: never
}

const (
	streamCount = 16
	firstWindow = 256 << 10
	leastWindow = 64 << 10        // what would be less is nothing
	pauseFull   = 5 * time.Second // nothing is fetched ahead for so long after the cache was full
)

// follow takes note of a miss, which ended at extent last, and fetches ahead if it continues a stream. Device.mu is held.
func (d *Device) follow(w *wait, last int) {
	if d.prefetch.replaying() {
		return // that knows better what comes
	}
	d.ticks++
	end := w.off + int64(w.n)
	for k := range d.streams {
		s := &d.streams[k]
		if s.used == 0 || w.off < s.end { // many may want the same place
			continue
		}
		leap := w.first > max(s.next, s.ahead)
		if leap && d.index.Start(w.first)-d.index.Start(s.next) > max(s.window, firstWindow) {
			continue
		}
		// What is on its way already is waited for. Behind it the stream goes on; over a small leap it does as it did.
		goesOn := w.first >= s.ahead
		if goesOn && !leap {
			d.adapt(s, w.first)
		}
		s.used, s.next, s.end = d.ticks, last+1, end
		w.stream = s
		if goesOn {
			d.advance(s)
		}
		return
	}
	s := &d.streams[0]
	for k := range d.streams {
		if d.streams[k].used < s.used {
			s = &d.streams[k]
		}
	}
	w.stream = s
	*s = stream{end: end, next: last + 1, from: last + 1, ahead: last + 1, trigger: -1, used: d.ticks}
}

// adapt makes the window of a stream, whose reader has come to an extent, larger when it has used what was fetched for it, and smaller
// when it has leapt over much of it. Device.mu is held.
func (d *Device) adapt(s *stream, at int) {
	fetched, used := int64(0), int64(0)
	for i := s.from; i < min(s.ahead, at); i++ {
		if x := d.index.Extents[i]; x.Chunk != format.Zero {
			fetched += x.Size
			if d.marks[x.Chunk].Load()&markWanted != 0 {
				used += x.Size
			}
		}
	}
	switch {
	case used >= fetched/2:
		s.window = min(max(2*s.window, 2*fetched, firstWindow), d.cfg.ReadAhead)
	case used < fetched/4:
		if s.window /= 2; s.window < leastWindow {
			s.window = 0
		}
	}
}

// advance fetches the next window of a stream. When the reader enters it, it will be time for the one after. Device.mu is held.
func (d *Device) advance(s *stream) {
	from := max(s.ahead, s.next)
	to := from
	for bytes := s.window; bytes > 0 && to < len(d.index.Extents); to++ {
		if x := d.index.Extents[to]; x.Chunk != format.Zero {
			bytes -= x.Size
		}
	}
	if to == from || d.closed || time.Since(d.prefetch.full) < pauseFull {
		return
	}
	if s.from = s.trigger; s.from < 0 {
		s.from = from
	}
	s.ahead, s.trigger = to, from
	for s.trigger < to-1 && d.index.Extents[s.trigger].Chunk == format.Zero {
		s.trigger++
	}
	if chunk := d.index.Extents[s.trigger].Chunk; chunk != format.Zero {
		d.marks[chunk].Or(markTrigger)
	}
	d.work.Go(func() { d.readAhead(from, to) })
}

// triggered is called when a reader gets to the chunk where it is time to fetch more.
func (d *Device) triggered(i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k := range d.streams {
		if s := &d.streams[k]; s.used != 0 && s.trigger == i && !d.closed {
			d.ticks++
			d.adapt(s, i)
			s.used, s.next, s.end = d.ticks, i+1, max(s.end, d.index.Start(i))
			d.advance(s)
			return
		}
	}
}

func (d *Device) readAhead(from, to int) {
	var need []int
	for i := from; i < to && d.ctx.Err() == nil; i++ {
		if !d.usable(d.image.State(i)) && d.fetchable(i, cache.Wanted) {
			need = append(need, i)
		}
	}
	d.enqueue(ofStreams, need, nil)
}
