package corrupt

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

const (
	tagName = "test/small"
	role    = "boot"
)

// image is an image in a store, and what it must read as.
type image struct {
	dir      string // of the store
	digest   format.Digest
	manifest *format.Manifest
	index    *format.Index
	want     tree
}

// small builds the image of which every bit is flipped: one of everything, in as few bytes as fill several chunks and two packs.
func small(t testing.TB) *image {
	t.Helper()
	return builtFrom(t, smallTree(t, 0), filepath.Join(t.TempDir(), "store"), smallOptions())
}

func smallOptions() build.Options {
	o := build.Defaults()
	o.Tag = tagName
	o.MinChunk, o.AvgChunk, o.MaxChunk, o.Group, o.PackSize = 4096, 8192, 12288, 3072, 12288
	// What a trace names has packs of its own.
	o.Trace = &format.Trace{Version: format.Version, Image: format.BLAKE3.Of(nil), Role: role, Paths: []string{"end", "etc/conf.d/a"}}
	return o
}

// smallTree makes the tree; another version differs in a part of the content.
func smallTree(t testing.TB, version byte) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "etc/conf.d"), 0o755))
	for name, size := range map[string]int{"empty": 0, "etc/inline": 100, "etc/conf.d/a": 2000, "etc/conf.d/b": 1500, "text": 24_000, "end": 4097} {
		must(t, os.WriteFile(filepath.Join(dir, name), words(size, version), 0o644))
	}
	noise := make([]byte, 600)
	_, _ = rand.NewChaCha8([32]byte{7, version}).Read(noise)
	must(t, os.WriteFile(filepath.Join(dir, "noise"), noise, 0o640))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	_, err = f.WriteAt(words(700, 3), 1<<16)
	must(t, err)
	must(t, f.Close())
	must(t, os.Symlink("etc/conf.d/a", filepath.Join(dir, "link")))
	must(t, os.Link(filepath.Join(dir, "text"), filepath.Join(dir, "etc/text-again")))
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(t, unix.Lsetxattr(filepath.Join(dir, "text"), "user.note", []byte("a value"), 0))
	must(t, unix.Lsetxattr(filepath.Join(dir, "etc"), "trusted.dir", []byte{0, 255}, 0))
	must(t, os.Lchown(filepath.Join(dir, "end"), 70000, 80000))
	return dir
}

// words are bytes that compress to a part.
func words(size int, seed byte) []byte {
	r := rand.New(rand.NewPCG(uint64(size), uint64(seed)))
	var b bytes.Buffer
	for b.Len() < size {
		fmt.Fprintf(&b, "%s%x\n", strings.Repeat("word ", 1+r.IntN(20)), r.IntN(256))
	}
	return b.Bytes()[:size]
}

func builtFrom(t testing.TB, dir, into string, o build.Options) *image {
	t.Helper()
	src, err := source.Directory(dir, source.Options{})
	must(t, err)
	defer src.Close()
	st, err := store.Create(into)
	must(t, err)
	r, err := build.Build(t.Context(), src, st, o)
	must(t, err)
	x, err := st.Index(r.Manifest)
	must(t, err)
	i := &image{dir: into, digest: r.Image, manifest: r.Manifest, index: x, want: treeOf(t, dir)}
	trace := &format.Trace{Version: format.Version, Image: r.Image, Role: role, Paths: []string{"text", "etc/inline"}}
	for _, c := range x.Chunks[:min(len(x.Chunks), 3)] {
		trace.Chunks = append(trace.Chunks, c.Sum)
	}
	must(t, st.PutTrace(t.Context(), trace))
	return i
}

// copyOf copies the store of an image, so that it can be damaged alone.
func (i *image) copyOf(t testing.TB) *image {
	t.Helper()
	c := *i
	c.dir = filepath.Join(memory(t), "store")
	must(t, os.CopyFS(c.dir, os.DirFS(i.dir)))
	return &c
}

// memory is a directory in memory, where there is one: what is written there thousands of times need not come to a disk.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "windlass-corrupt-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// blob is the path of a blob in the store.
func (i *image) blob(d format.Digest) string { return filepath.Join(i.dir, format.BlobPath(d)) }

// pack is the path of a pack in the store.
func (i *image) pack(n int) string {
	return i.blob(format.Digest{Algorithm: i.index.Algorithm, Sum: i.index.Packs[n].Sum})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
