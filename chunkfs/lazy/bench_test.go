package lazy

import (
	"context"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

func big() chunktest.Options {
	return chunktest.Options{Chunks: 1000, Largest: 128 << 10, Codec: format.Zstd, PackSize: 16 << 20}
}

func benchmarkCached(b *testing.B, n int) {
	r := newRig(b, setup{image: big(), config: Config{Verify: true}})
	r.checkAll(b)
	b.SetBytes(int64(n))
	ctx := context.Background()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		off := int64(12345)
		for p.Next() {
			s, err := r.Read(ctx, off, n)
			if err != nil {
				b.Fatal(err)
			}
			s.Release()
			off = (off + 7654321) % (r.Size() - int64(n))
		}
	})
}

func BenchmarkCached4K(b *testing.B)   { benchmarkCached(b, 4<<10) }
func BenchmarkCached128K(b *testing.B) { benchmarkCached(b, 128<<10) }

// BenchmarkMiss reads a chunk of about 64 KiB that is not there, from an origin in memory.
func BenchmarkMiss(b *testing.B) {
	r := newRig(b, setup{image: big(), quota: 1 << 40, config: Config{Verify: true, ReadAhead: -1}})
	b.SetBytes(r.Size() / int64(len(r.index.Chunks)))
	ctx := context.Background()
	for k := 0; b.Loop(); k = (k + 7) % len(r.index.Chunks) {
		r.image.MarkBad(k)
		s, err := r.Read(ctx, r.index.Start(k), 1)
		if err != nil {
			b.Fatal(err)
		}
		s.Release()
	}
}

// BenchmarkSequential reads all of an image that is not there, 128 KiB at a time.
func BenchmarkSequential(b *testing.B) {
	r := newRig(b, setup{image: big(), quota: 1 << 40, config: Config{Verify: true}})
	b.SetBytes(r.Size())
	for b.Loop() {
		b.StopTimer()
		for k := range r.index.Extents {
			r.image.MarkBad(k)
		}
		b.StartTimer()
		for off := int64(0); off < r.Size(); off += 128 << 10 {
			s, err := r.Read(context.Background(), off, 128<<10)
			if err != nil {
				b.Fatal(err)
			}
			s.Release()
		}
	}
}
