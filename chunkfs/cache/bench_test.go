package cache

import (
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
)

// BenchmarkHold is what a reader of a chunk that is there pays to the cache.
func BenchmarkHold(b *testing.B) {
	i := chunktest.New(b, chunktest.Options{})
	c := open(b, b.TempDir(), 0)
	defer shut(b, c)
	m := add(b, c, i)
	defer m.Release()
	fill(b, m, i, Wanted)
	for n := 0; b.Loop(); n++ {
		k := n % len(m.extents)
		m.Hold(k)
		m.Drop(k)
	}
}

// BenchmarkFill writes chunks of 64 KiB; in between they are forgotten.
func BenchmarkFill(b *testing.B) {
	i := chunktest.New(b, chunktest.Options{Chunks: 256, Largest: 128 << 10})
	c := open(b, b.TempDir(), 1<<40)
	defer shut(b, c)
	m := add(b, c, i)
	defer m.Release()
	b.SetBytes(m.Size() / int64(len(m.extents)))
	for n := 0; b.Loop(); n++ {
		k := n % (len(m.extents) - 1)
		m.MarkBad(k)
		if err := m.Fill(k, plain(i, k), true, Wanted); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCheck verifies chunks of 64 KiB that were found at a start.
func BenchmarkCheck(b *testing.B) {
	i := chunktest.New(b, chunktest.Options{Chunks: 256, Largest: 128 << 10})
	c := open(b, b.TempDir(), 0)
	defer shut(b, c)
	m := add(b, c, i)
	defer m.Release()
	fill(b, m, i, Wanted)
	b.SetBytes(m.Size() / int64(len(m.extents)))
	for n := 0; b.Loop(); n++ {
		k := n % (len(m.extents) - 1)
		m.move(k, Suspect, always)
		m.Hold(k)
		m.Check(k)
		m.Drop(k)
	}
}
