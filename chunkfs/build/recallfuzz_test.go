package build

import (
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// FuzzRecall takes any bytes as what follows the header of a recall file.
func FuzzRecall(f *testing.F) {
	r := &recall{path: "x", now: map[format.Sum]memory{
		{1}: {kind: smallFile, parts: []part{{size: 5, sum: format.Sum{2}}}},
		{2}: {kind: largeFile, age: 3, parts: []part{{size: 70000, sum: format.Sum{3}}, {size: 65536}}},
		{3}: {kind: groupOf, length: 8192, parts: []part{{sum: format.Sum{4}}}},
	}}
	b := r.encode()
	head := len(recallMagic) + len(r.options)
	f.Add(b[head : len(b)-len(format.Sum{})])
	if got := decodeRecall(b, r.options); len(got) != len(r.now) || got[format.Sum{2}].parts[0] != r.now[format.Sum{2}].parts[0] {
		f.Fatalf("%v", got)
	}
	f.Fuzz(func(t *testing.T, entries []byte) {
		whole := append(append([]byte{}, b[:head]...), entries...)
		sum := format.BLAKE3.Sum(whole)
		all := decodeRecall(append(whole, sum[:]...), r.options)
		if len(all)*34 > len(entries) {
			t.Fatalf("%d entries of %d bytes", len(all), len(entries))
		}
	})
}
