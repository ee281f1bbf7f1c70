package erofs_test

import (
	"fmt"
	"io"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
)

// BenchmarkWrite is about a tree of a million files in ten thousand directories: time and memory for each inode.
func BenchmarkWrite(b *testing.B) {
	root, size := erofstest.Dir(), int64(0)
	for i := range 10_000 {
		d := erofstest.Dir()
		for j := range 100 {
			f := erofstest.Node(unix.S_IFREG | 0o644)
			f.Size, f.Extents = 5000, []erofs.Extent{{Device: size, Size: 5000}}
			size += 2 * erofs.BlockSize
			d.Entries = append(d.Entries, erofs.Entry{Name: fmt.Sprintf("file-%03d.txt", j), Node: f})
		}
		root.Entries = append(root.Entries, erofs.Entry{Name: fmt.Sprintf("dir-%05d", i), Node: d})
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		n, err := erofs.Write(io.Discard, root, erofs.Options{DeviceSize: size})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(n)/1_010_001, "B/inode")
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapSys-before.HeapSys)/1_010_001, "heap-B/inode")
}
