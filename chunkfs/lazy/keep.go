package lazy

import (
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// keep puts the plain bytes of a flight into the cache, or with its readers where there is no room, and settles it. Then it
// gives them to other devices that wait for it.
func (d *Device) keep(f *flight, plain []byte, verified bool) {
	done := 0
	var refused []int
	for {
		extents, urgency, last := d.toKeep(f, done, refused, plain)
		if last {
			f.handOn(plain, verified)
			return
		}
		for _, i := range extents {
			if err := d.image.Fill(i, plain, verified, urgency); err != nil {
				refused = append(refused, i)
			}
		}
		done += len(extents)
	}
}

// toKeep gives the extents of a flight that have not been filled. When there are none it settles the flight, under the same lock, so that
// no reader comes in between.
func (d *Device) toKeep(f *flight, done int, refused []int, plain []byte) ([]int, cache.Urgency, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.done {
		return nil, 0, true
	}
	if done < len(f.extents) {
		urgency := cache.Wanted
		if len(f.claims) == 0 && f.class == origin.Background {
			urgency = cache.Spare
		}
		return slices.Clone(f.extents[done:]), urgency, false
	}
	if len(refused) > 0 {
		d.give(f, refused, plain)
	}
	f.kept = true
	d.settle(f, nil)
	return nil, 0, true
}

// give gives a chunk that the cache has no room for to those who wait for it. Device.mu is held.
func (d *Device) give(f *flight, refused []int, plain []byte) {
	d.prefetch.full = time.Now()
	for _, c := range f.claims {
		if slices.Contains(refused, c.at) {
			c.by.put(c.at, d.index.Start(c.at), plain)
		}
	}
	if len(f.claims) > 0 {
		d.recent.put(f.chunk, plain)
	}
}

// retry puts what was in memory into the cache if there is room for it by now.
func (d *Device) retry(w *wait) {
	for _, r := range w.refused {
		if d.image.Fill(r.extent, r.plain, d.cfg.Verify, cache.Wanted) != nil {
			return
		}
		d.mu.Lock()
		d.recent.drop(d.index.Extents[r.extent].Chunk)
		d.mu.Unlock()
	}
}

// recent keeps chunks that the cache had no room for, since the next read is often of the same one. Its methods are called with
// Device.mu held.
type recent struct {
	limit, size int64
	chunks      []recentChunk // the oldest first
}

type recentChunk struct {
	chunk uint32
	plain []byte
}

func (r *recent) get(chunk uint32) []byte {
	for _, c := range r.chunks {
		if c.chunk == chunk {
			return c.plain
		}
	}
	return nil
}

func (r *recent) drop(chunk uint32) {
	r.chunks = slices.DeleteFunc(r.chunks, func(c recentChunk) bool {
		if c.chunk == chunk {
			r.size -= int64(len(c.plain))
		}
		return c.chunk == chunk
	})
}

func (r *recent) put(chunk uint32, plain []byte) {
	if int64(len(plain)) > r.limit || r.get(chunk) != nil {
		return
	}
	r.chunks = append(r.chunks, recentChunk{chunk, slices.Clone(plain)})
	r.size += int64(len(plain))
	for r.size > r.limit {
		r.size -= int64(len(r.chunks[0].plain))
		r.chunks = slices.Delete(r.chunks, 0, 1)
	}
}
