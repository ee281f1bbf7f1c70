package image_test

import (
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/image"
)

// buildFrom builds an image of what source.Open finds.
func buildFrom(t *testing.T, st *store.Store, from, tag string) build.Result {
	t.Helper()
	src, err := source.Open(t.Context(), from, source.Options{Skipped: func(path, what string) { t.Errorf("left out: %s: %s", path, what) }})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	o := build.Defaults()
	o.Tag = tag
	r, err := build.Build(t.Context(), src, st, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestATreeGoesRound builds from what was unpacked, and again from what was exported of that.
func TestATreeGoesRound(t *testing.T) {
	s, img := sample(t)
	at := tmpfs(t)
	first, second := filepath.Join(at, "first"), filepath.Join(at, "second")
	if err := img.Unpack(t.Context(), first, image.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	st := newStore(t)
	built := buildFrom(t, st, first, "round/1")
	round := find(t, st.Dir(), "round/1")
	if err := round.Unpack(t.Context(), second, image.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	s.Compare(t, second)

	d, err := image.Compare(t.Context(), img, round)
	if err != nil || len(d.Added)+len(d.Removed)+len(d.Changed) > 0 {
		t.Errorf("the image of the unpacked tree differs: %+v, %v", d, err)
	}
	file := filepath.Join(at, "out.tar")
	if err := round.TarFile(t.Context(), file, image.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	again := buildFrom(t, st, file, "round/2")
	if again.NewChunks > 0 {
		t.Errorf("of the tar %d chunks are new, of the tree there were %d", again.NewChunks, built.Chunks)
	}
	d, err = image.Compare(t.Context(), round, find(t, st.Dir(), "round/2"))
	if err != nil || len(d.Added)+len(d.Changed) > 0 || slices.ContainsFunc(d.Removed, func(e image.Entry) bool { return e.Type != "socket" }) {
		t.Errorf("the image of the archive differs: %v, %+v", err, d)
	}
	if r, err := image.Check(t.Context(), st.Dir(), "", store.CheckOptions{}); err != nil || len(r.Damages) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestChecksNameTheFilesOfABuiltImage(t *testing.T) {
	root := &erofstest.Sample{}
	var entries []erofs.Entry
	for _, name := range []string{"a", "b\xff", "c"} {
		entries = append(entries, erofs.Entry{Name: name, Node: root.File(300_000, map[int64][]byte{0: erofstest.Random(300_000 + len(entries))[:300_000]})})
	}
	link := entries[1]
	link.Name = "also-b"
	root.Root = erofstest.Dir(append(entries, link)...)
	erofstest.Sort(root.Root)
	st, good := newStore(t), newStore(t)
	for _, s := range []*store.Store{st, good} {
		publish(t, s, "x", root.Root, root.Data, 4)
	}
	img := find(t, st.Dir(), "x")
	target := entries[1].Node.Extents[0]
	chunk := img.Index.Chunks[img.Index.Extents[img.Index.Find(target.Device+150_000)].Chunk]
	pack := packPath(st, img, chunk.Pack)
	flip(t, pack, int64(chunk.Offset)+5)
	r, err := image.Check(t.Context(), st.Dir(), "", store.CheckOptions{})
	if err != nil || len(r.Damages) != 1 || !slices.Equal(r.Damages[0].Files, []string{`"b\xff"`, "also-b"}) {
		t.Fatalf("got %+v, %v", r, err)
	}
	if err := img.Unpack(t.Context(), filepath.Join(t.TempDir(), "x"), image.UnpackOptions{}); err == nil {
		t.Fatal("a damaged image was unpacked")
	}
	if r, err := image.Check(t.Context(), st.Dir(), good.Dir(), store.CheckOptions{}); err != nil || r.Damaged() > 0 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if err := img.Unpack(t.Context(), filepath.Join(t.TempDir(), "x"), image.UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
}

func packPath(st *store.Store, img *image.Image, n uint32) string {
	d := img.Digest
	d.Sum = img.Index.Packs[n].Sum
	return filepath.Join(st.Dir(), "blobs", d.Algorithm.String(), d.Sum.String()[:2], d.Sum.String())
}

func flip(t *testing.T, path string, at int64) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	b := make([]byte, 1)
	if _, err := unix.Pread(fd, b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := unix.Pwrite(fd, b, at); err != nil {
		t.Fatal(err)
	}
}
