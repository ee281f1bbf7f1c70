package origin_test

import (
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// BenchmarkFetch is one request for one piece of 29 kB, over loopback or from a directory.
func BenchmarkFetch(b *testing.B) {
	im := newImage(b)
	for name, url := range map[string]string{"http": serve(b, im.dir), "directory": im.dir} {
		for pieces, run := range map[string][]origin.Piece{"one": im.pieces[:1], "ten": im.pieces} {
			s := open(b, origin.Options{}, url)
			f := origin.Fetch{Pack: im.pack, Pieces: run, Deliver: func(int, []byte) error { return nil }}
			bytes := int64(len(run)) * 29_000
			one := func() {
				if err := s.Fetch(b.Context(), format.SHA256, f); err != nil {
					b.Error(err)
				}
			}
			b.Run(name+"/"+pieces, func(b *testing.B) {
				b.SetBytes(bytes)
				b.ReportAllocs()
				for b.Loop() {
					one()
				}
			})
			b.Run(name+"/"+pieces+"/8 readers", func(b *testing.B) {
				b.SetBytes(bytes)
				b.ReportAllocs()
				b.SetParallelism(4)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			})
		}
	}
}
