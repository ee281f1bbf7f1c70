package cache

import (
	"cmp"
	"slices"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// evict frees about so many bytes, if it can: first of images that are not in use, the longest unused first; for a reader also chunks of
// images in use that nobody has wanted for as long as the working set. It returns how many bytes of chunks went. Cache.evicting is held.
func (c *Cache) evict(bytes int64, u Urgency) int64 {
	if !c.settled {
		return 0
	}
	freed := int64(0)
	for _, e := range c.idleEntries(false) {
		if freed >= bytes {
			break
		}
		freed += c.evictIdle(e, bytes-freed)
	}
	if u == Wanted && c.canPunch {
		for _, m := range c.running() {
			if freed < bytes {
				freed += m.sweep(bytes-freed, c.workingSet)
			}
			c.unref(m.entry)
		}
	}
	c.evicted.Add(freed)
	return freed
}

// idleEntries lists the images that may be evicted as a whole, by their last use.
func (c *Cache) idleEntries(newestFirst bool) []*entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var idle []*entry
	used := map[*entry]int64{}
	for _, e := range c.entries {
		if e.idle() {
			idle = append(idle, e)
			used[e] = e.used.UnixNano()
		}
	}
	slices.SortFunc(idle, func(a, b *entry) int { return cmp.Compare(used[a], used[b]) })
	if newestFirst {
		slices.Reverse(idle)
	}
	return idle
}

// evictIdle takes chunks from an image that is not in use, and the image when none is left. An image that cannot be read is of no use,
// and one on a file system without holes goes whole.
func (c *Cache) evictIdle(e *entry, bytes int64) int64 {
	c.mu.Lock()
	whole := e.taken()
	c.mu.Unlock()
	m := c.take(e)
	if m == nil || !c.canPunch {
		if m != nil {
			c.unref(e)
		}
		if c.removeIdle(e) {
			return whole
		}
		return 0
	}
	freed := m.sweep(bytes, 0)
	empty := !m.anything()
	c.unref(e)
	if empty {
		c.removeIdle(e)
	}
	return freed
}

// anything says whether any chunk is there.
func (m *Image) anything() bool {
	for i := range m.extents {
		if m.index.Extents[i].Chunk != format.Zero && m.State(i) != Missing {
			return true
		}
	}
	return false
}

// running lists the images in use whose chunks may be evicted, and refs them. The one with the most on the disk comes first.
func (c *Cache) running() []*Image {
	c.mu.Lock()
	defer c.mu.Unlock()
	var images []*Image
	size := map[*Image]int64{}
	for _, e := range c.entries {
		if e.users > 0 && e.image != nil && !e.protected() {
			e.refs++
			images = append(images, e.image)
			size[e.image] = e.taken()
		}
	}
	slices.SortFunc(images, func(a, b *Image) int { return cmp.Compare(size[b], size[a]) })
	return images
}

// batch is how many extents of an image are evicted at once: meanwhile nothing can be written to it.
const batch = 64

// sweep evicts extents that nobody holds and that were not held in the last so many seconds, going round the image from where the last
// sweep ended.
func (m *Image) sweep(bytes int64, unused uint32) int64 {
	freed := int64(0)
	var picked []int
	for range m.extents {
		if freed >= bytes {
			break
		}
		i := m.hand
		m.hand = (m.hand + 1) % len(m.extents)
		if m.evictable(m.extents[i].word.Load(), unused) && m.index.Extents[i].Chunk != format.Zero {
			picked = append(picked, i)
			freed += m.index.Extents[i].Size
		}
		if len(picked) == batch {
			freed -= m.drop(picked, unused)
			picked = picked[:0]
		}
	}
	return freed - m.drop(picked, unused)
}

func (m *Image) evictable(w uint64, unused uint32) bool {
	return stateOf(w) != Missing && holdsOf(w) == 0 && m.cache.now.Load()-seenOf(w) >= unused
}

// drop makes extents Missing and frees their blocks. It returns the bytes of those that somebody took meanwhile.
func (m *Image) drop(picked []int, unused uint32) int64 {
	m.space.Lock()
	defer m.space.Unlock()
	if m.spared() {
		return m.bytesOf(picked)
	}
	taken := int64(0)
	slices.Sort(picked) // the hand may have gone round
	for at := 0; at < len(picked); {
		i := picked[at]
		n := 0
		for at < len(picked) && picked[at] == i+n && m.forget(i+n, unused) {
			n++
			at++
		}
		if n == 0 {
			taken += m.index.Extents[i].Size
			at++
			continue
		}
		m.punch(i, i+n)
	}
	return taken
}

// spared says that the image got protection since it was picked. SetDirect and SetPin are done when they return: from then on it holds.
func (m *Image) spared() bool {
	m.cache.mu.Lock()
	defer m.cache.mu.Unlock()
	return m.entry.protected()
}

func (m *Image) bytesOf(extents []int) int64 {
	sum := int64(0)
	for _, i := range extents {
		sum += m.index.Extents[i].Size
	}
	return sum
}

func (m *Image) forget(i int, unused uint32) bool {
	if !m.move(i, Missing, func(w uint64) bool { return m.evictable(w, unused) }) {
		return false
	}
	m.present.set(i, false)
	return true
}

// punch frees the blocks of the extents from first to before last, which are Missing, but none that an extent beside them needs.
func (m *Image) punch(first, last int) {
	const b = format.BlockSize
	start, end := m.index.Start(first), m.index.Start(last)
	from := start / b * b
	for i := first - 1; i >= 0 && m.index.Start(i+1) > from; i-- {
		if m.needs(i) {
			from += b
			break
		}
	}
	to := (end + b - 1) / b * b
	for i := last; i < len(m.extents) && m.index.Start(i) < to; i++ {
		if m.needs(i) {
			to -= b
			break
		}
	}
	from, to = max(from, 0), min(to, m.index.DeviceSize)
	if from < to {
		_ = punch(m.data, from, to-from) // what stays is found when the room is measured
	}
}

// needs says that an extent has bytes on the disk that matter. Those of a hole are zeros, and zeros they stay.
func (m *Image) needs(i int) bool {
	return m.index.Extents[i].Chunk != format.Zero && m.State(i) != Missing
}
