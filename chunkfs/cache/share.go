package cache

import (
	"bytes"
	"slices"
	"sort"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// Extents gives the numbers of the extents that have a chunk, in order.
func (m *Image) Extents(chunk uint32) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := m.first[chunk]; i >= 0 && yield(int(i)); i = m.next[i] {
		}
	}
}

// sort gives the numbers of the chunks by their sums: a quarter of what a map would take, in memory that is there for every image.
func (m *Image) sort() []uint32 {
	s := make([]uint32, len(m.index.Chunks))
	for i := range s {
		s[i] = uint32(i)
	}
	slices.SortFunc(s, func(a, b uint32) int { return bytes.Compare(m.index.Chunks[a].Sum[:], m.index.Chunks[b].Sum[:]) })
	return s
}

// Chunk finds a chunk by its sum.
func (m *Image) Chunk(sum format.Sum) (uint32, bool) {
	s := m.sorted()
	i, found := sort.Find(len(s), func(i int) int { return bytes.Compare(sum[:], m.index.Chunks[s[i]].Sum[:]) })
	if !found {
		return 0, false
	}
	return s[i], true
}

// Elsewhere looks for the chunk of extent i in the rest of this image and in the other images of the cache. What it returns has been
// verified; it is appended to buf. Nil: not found.
func (m *Image) Elsewhere(i int, buf []byte) []byte {
	chunk := m.index.Extents[i].Chunk
	if chunk == format.Zero {
		return nil
	}
	if b := m.copyOf(chunk, i, buf); b != nil {
		return b
	}
	others := m.cache.others(m)
	defer m.cache.unrefAll(others)
	for _, o := range others {
		if o.index.Algorithm != m.index.Algorithm {
			continue
		}
		if other, ok := o.Chunk(m.index.Chunks[chunk].Sum); ok {
			if b := o.copyOf(other, -1, buf); b != nil {
				return b
			}
		}
	}
	return nil
}

// Known says whether Elsewhere is likely to find a chunk. It looks at nothing on the disk.
func (m *Image) Known(chunk uint32) bool {
	if m.anywhere(chunk) {
		return true
	}
	others := m.cache.others(m)
	defer m.cache.unrefAll(others)
	return slices.ContainsFunc(others, func(o *Image) bool {
		other, ok := o.Chunk(m.index.Chunks[chunk].Sum)
		return ok && o.index.Algorithm == m.index.Algorithm && o.anywhere(other)
	})
}

func (m *Image) anywhere(chunk uint32) bool {
	for i := range m.Extents(chunk) {
		if m.State(i) != Missing {
			return true
		}
	}
	return false
}

// copyOf appends a chunk of this image to buf if any extent but one has it.
func (m *Image) copyOf(chunk uint32, except int, buf []byte) []byte {
	for i := range m.Extents(chunk) {
		if i == except || m.State(i) == Missing {
			continue
		}
		if m.Hold(i) == Missing { // evicted just now
			m.Drop(i)
			continue
		}
		b, ok := m.read(i, buf)
		if ok {
			m.move(i, Good, doubtful)
		} else {
			m.damaged(i)
		}
		m.Drop(i)
		if ok {
			return b
		}
	}
	return nil
}

// others gives the loaded images but one, for a short while, until unrefAll.
func (c *Cache) others(but *Image) []*Image {
	c.mu.Lock()
	defer c.mu.Unlock()
	var images []*Image
	for _, e := range c.entries {
		if e.image != nil && e.image != but && !e.gone {
			e.refs++
			images = append(images, e.image)
		}
	}
	return images
}

func (c *Cache) unrefAll(images []*Image) {
	for _, m := range images {
		c.unref(m.entry)
	}
}
