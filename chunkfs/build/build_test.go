package build_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// compare holds an image against what was built: the last item of each path counts.
func compare(t *testing.T, st *store.Store, d format.Digest, f *fake) *image {
	t.Helper()
	im := openImage(t, st, d)
	for k, item := range f.items {
		if slices.ContainsFunc(f.items[k+1:], func(later source.Item) bool {
			return later.Path == item.Path || !isDir(later.Node) && strings.HasPrefix(item.Path, later.Path+"/") || !isDir(item.Node) && strings.HasPrefix(later.Path, item.Path+"/")
		}) {
			continue
		}
		n := im.find(item.Path)
		w := item.Node
		if n.Mode != w.Mode || n.UID != w.UID || !n.ModTime.Equal(w.ModTime) || n.Rdev != w.Rdev || n.Size != w.Size || n.Target != w.Target || len(n.Xattrs) != len(w.Xattrs) {
			t.Errorf("%q is %+v, want %+v", item.Path, n, w)
		}
		if item.Open != nil {
			c, err := item.Open()
			if err != nil {
				t.Fatal(err)
			}
			im.same(item.Path, n, c.(*content))
		}
	}
	if im.find("link-a") != im.find("link-b") {
		t.Error("a hard link became a file")
	}
	return im
}

func isDir(n *erofs.Node) bool { return n.Mode&unix.S_IFMT == unix.S_IFDIR }

func TestImageHasWhatTheSourceHas(t *testing.T) {
	for inline, random := range map[int]bool{0: true, 700: false} {
		for _, codec := range []format.Codec{format.None, format.Zstd, format.LZ4} {
			t.Run(fmt.Sprintf("random=%v,%v,inline=%d", random, codec, inline), func(t *testing.T) {
				o := options()
				o.Codec, o.Inline = codec, inline
				o.Labels = map[string]string{"source": "test"}
				if codec == format.LZ4 {
					o.Algorithm = format.SHA256
				}
				st, f := newStore(t), everything(random)
				r := mustBuild(t, st, f, o)
				im := compare(t, st, r.Image, f)
				if tagged, err := st.Tag("test"); err != nil || tagged != r.Image {
					t.Errorf("the tag names %v, %v; the image is %v", tagged, err, r.Image)
				}
				if r.Manifest.Labels["source"] != "test" || r.NewChunks != r.Chunks || r.Chunks != int64(len(im.index.Chunks)) {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

func TestPlacesAreShared(t *testing.T) {
	st := newStore(t)
	r := mustBuild(t, st, everything(true), options())
	im := openImage(t, st, r.Image)
	for _, twins := range [][2]string{{"big", "again/big"}, {"small/twin", "small/fzxx"}} {
		a, b := im.find(twins[0]), im.find(twins[1])
		if len(a.Extents) != 1 || len(b.Extents) != 1 || a.Extents[0] != b.Extents[0] || a == b {
			t.Errorf("%v lie at %v and %v", twins, a.Extents, b.Extents)
		}
	}
	for _, nothing := range []string{"hole", "zero", "zero-short", "small/zero", "empty"} {
		if n := im.find(nothing); len(n.Extents) != 0 || n.Data != nil {
			t.Errorf("%s takes %v", nothing, n.Extents)
		}
	}
	if n := im.find("late"); n.Mode != unix.S_IFDIR|0o755 || n.UID != 0 || n.ModTime.Unix() != 0 {
		t.Errorf("a directory that the source does not speak of is %+v", n)
	}
	seen := map[format.Sum]bool{}
	for _, c := range im.index.Chunks {
		if seen[c.Sum] {
			t.Errorf("chunk %v is in the index twice", c.Sum)
		}
		seen[c.Sum] = true
	}
	for i, p := range im.index.Packs {
		if p.Size > int64(options().PackSize) {
			t.Errorf("pack %d has %d bytes", i, p.Size)
		}
	}
	if len(im.index.Packs) < 3 {
		t.Errorf("%d packs", len(im.index.Packs))
	}
}

// The image depends on the source and the options that say what is to be in it, on nothing else.
func TestSameBytes(t *testing.T) {
	var first format.Digest
	for _, random := range []bool{true, false} {
		for _, parallel := range []int{1, 2, 7} {
			o := options()
			o.Parallel = parallel
			r := mustBuild(t, newStore(t), everything(random), o)
			if first.IsZero() {
				first = r.Image
			}
			if r.Image != first {
				t.Errorf("random %v, parallel %d: %v, not %v", random, parallel, r.Image, first)
			}
		}
	}
}

func TestNextVersionReusesChunks(t *testing.T) {
	st, o := newStore(t), options()
	full := mustBuild(t, st, everything(true), o)
	again := mustBuild(t, st, everything(false), o)
	if again.Image != full.Image || again.New != 0 || again.NewChunks != 0 || again.Reused != full.Chunks {
		t.Errorf("the same again: %+v, first %+v", again, full)
	}
	next := everything(true)
	next.file("small/fa", text(5000, 3000))
	next.file("added", noise(7, 30_000))
	o.Tag = "next"
	r := mustBuild(t, st, next, o)
	compare(t, st, r.Image, next)
	if r.NewChunks < 3 || r.NewChunks > 12 || r.New > 200_000 || r.Reused+r.NewChunks != r.Chunks {
		t.Errorf("two files more: %+v", r)
	}
	if old, err := st.Tag("test"); err != nil || old != full.Image {
		t.Errorf("the old tag names %v, %v", old, err)
	}
}

// A file that changes in the middle keeps the chunks around the change.
func TestChunksFollowContent(t *testing.T) {
	st, o := newStore(t), options()
	data := noise(1, 2_000_000)
	f := &fake{random: true}
	f.file("f", data)
	before := mustBuild(t, st, f, o)
	f = &fake{random: true}
	f.file("f", slices.Concat(data[:1_000_000], []byte("inserted"), data[1_000_000:]))
	after := mustBuild(t, st, f, o)
	if after.NewChunks > 3 || before.Chunks < 60 {
		t.Errorf("%d chunks, of which an insertion makes %d new", before.Chunks, after.NewChunks)
	}
}

func TestLaidOutByTrace(t *testing.T) {
	trace := &format.Trace{Version: format.Version, Image: format.BLAKE3.Of(nil), Role: "boot",
		Paths: []string{"noise", "not/there", format.QuotePath("small/\xff\xfe"), "small/fz", "again/big", "small/fbx", "noise"}}
	st, o := newStore(t), options()
	o.Inline = 0
	mustBuild(t, st, everything(true), o)
	o.Trace = trace
	var first format.Digest
	for _, random := range []bool{true, false} {
		f := everything(random)
		r := mustBuild(t, st, f, o)
		im := compare(t, st, r.Image, f)
		if first.IsZero() {
			first = r.Image
		}
		if r.Image != first {
			t.Errorf("random %v: another image", random)
		}
		last := int64(-1)
		for _, path := range []string{"noise", "small/\xff\xfe", "small/fz", "small/fbx"} {
			at := im.find(path).Extents[0].Device
			if path != "noise" && at < last {
				t.Errorf("%q lies before what the trace has before it", path)
			}
			last = at
		}
		// noise and the three small files are the end of the device, and the last packs hold nothing else.
		start := im.index.Find(im.find("noise").Extents[0].Device)
		pack := im.index.Chunks[im.index.Extents[start].Chunk].Pack
		for i, e := range im.index.Extents {
			if e.Chunk != format.Zero && (im.index.Chunks[e.Chunk].Pack >= pack) != (i >= start) {
				t.Fatalf("extent %d of %d lies in pack %d; the trace begins with extent %d in pack %d", i, len(im.index.Extents), im.index.Chunks[e.Chunk].Pack, start, pack)
			}
		}
	}
}

func TestFailures(t *testing.T) {
	broken := func(spoil func(*content)) *fake {
		f := everything(true)
		f.add("broken", &erofs.Node{Mode: unix.S_IFREG, Size: 200_000}, func() (source.Content, error) {
			c := &content{size: 200_000, regions: []region{{0, noise(9, 200_000)}}}
			spoil(c)
			return c, nil
		})
		return f
	}
	changed := fault.New(fault.BadState, "it changed while it was read")
	for name, c := range map[string]struct {
		src  *fake
		kind fault.Kind
		says string
	}{
		"short":     {broken(func(c *content) { c.size = 150_000 }), fault.Corrupt, `"broken"`},
		"read":      {broken(func(c *content) { c.failAt = 100_000 }), fault.Internal, "the disk is gone"},
		"changed":   {broken(func(c *content) { c.closed, c.size = changed, 150_000 }), fault.BadState, "changed while"},
		"walk":      {&fake{err: fault.New(fault.Corrupt, "the archive ends early")}, fault.Corrupt, "ends early"},
		"nothing":   {&fake{items: []source.Item{{Path: "f", Node: &erofs.Node{Mode: unix.S_IFREG, Size: 5}}}}, fault.Corrupt, `"f"`},
		"root":      {&fake{items: []source.Item{{Path: ".", Node: &erofs.Node{Mode: unix.S_IFREG}}}}, fault.Invalid, "root"},
		"long name": {&fake{items: []source.Item{{Path: strings.Repeat("n", 256), Node: &erofs.Node{Mode: unix.S_IFIFO}}}}, fault.Invalid, "nnn"},
	} {
		for _, random := range []bool{true, false} {
			c.src.random = random
			st := newStore(t)
			_, err := build.Build(t.Context(), c.src, st, options())
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %s: %v", name, fault.KindOf(err), err)
			}
			nothingLeft(t, st)
		}
	}
}

// nothingLeft says that a build that failed left no tag and nothing that gc does not remove.
func nothingLeft(t *testing.T, st *store.Store) {
	t.Helper()
	if tags, err := st.Tags(); err != nil || len(tags) != 0 {
		t.Errorf("tags %v, %v", tags, err)
	}
	r, err := st.GC(t.Context(), store.GCOptions{})
	if err != nil || r.KeptBlobs != 0 {
		t.Errorf("gc: %+v, %v", r, err)
	}
}

func TestCancelled(t *testing.T) {
	for _, at := range []int{0, 5, 310, len(everything(true).items) - 1} {
		ctx, cancel := context.WithCancel(t.Context())
		f := everything(at%2 == 0)
		f.during = func(i int) {
			if i == at {
				cancel()
			}
		}
		st, before := newStore(t), runtime.NumGoroutine()
		_, err := build.Build(ctx, f, st, options())
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at item %d: %v", at, err)
		}
		nothingLeft(t, st)
		for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for name, spoil := range map[string]func(*build.Options){
		"tag":      func(o *build.Options) { o.Tag = "../x" },
		"no tag":   func(o *build.Options) { o.Tag = "" },
		"average":  func(o *build.Options) { o.AvgChunk = 10_000 },
		"order":    func(o *build.Options) { o.MinChunk = o.AvgChunk },
		"small":    func(o *build.Options) { o.MinChunk = 2048 },
		"large":    func(o *build.Options) { o.MaxChunk = 8 << 20 },
		"group":    func(o *build.Options) { o.Group = o.MaxChunk + 1 },
		"pack":     func(o *build.Options) { o.PackSize = 512 << 20 },
		"inline":   func(o *build.Options) { o.Inline = 4096 },
		"level":    func(o *build.Options) { o.Level = 50 },
		"codec":    func(o *build.Options) { o.Codec = 9 },
		"parallel": func(o *build.Options) { o.Parallel = -1 },
		"digest":   func(o *build.Options) { o.Algorithm = 9 },
		"labels":   func(o *build.Options) { o.Labels = map[string]string{"": "x"} },
	} {
		o := options()
		spoil(&o)
		if _, err := build.Build(t.Context(), everything(true), newStore(t), o); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := mustBuild(t, newStore(t), everything(true), build.Options{Tag: "zero"})
	if r.Image.Algorithm != format.BLAKE3 {
		t.Errorf("%v", r.Image)
	}
}

func TestProgress(t *testing.T) {
	var last build.Progress
	o := options()
	o.Progress = func(p build.Progress) {
		if p.Files < last.Files || p.New < last.New {
			t.Errorf("%+v after %+v", p, last)
		}
		last = p
	}
	r := mustBuild(t, newStore(t), everything(true), o)
	if last.Files < 300 || last.New != r.Stored || last.Total == 0 {
		t.Errorf("at the end %+v of %+v", last, r)
	}
}

// Sparse files of every shape come back as they were, and zeros take no room.
func TestRandomShapes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := &fake{random: true}
	f.file("link-a", nil)
	f.add("link-b", f.items[0].Node, nil)
	for i := range 60 {
		var regions []region
		at := int64(0)
		for range r.IntN(12) {
			at += []int64{0, 1, r.Int64N(5000), r.Int64N(200_000), 4096 * r.Int64N(64), 65536 * r.Int64N(5)}[r.IntN(6)]
			n := []int{1, r.IntN(5000) + 1, r.IntN(100_000) + 1, 4096 * (r.IntN(30) + 1)}[r.IntN(4)]
			data := noise(uint64(i)<<8+uint64(len(regions)), n)
			if r.IntN(3) == 0 {
				clear(data[r.IntN(n):])
			}
			regions = append(regions, region{at, data})
			at += int64(n)
		}
		size := at + []int64{0, 1, r.Int64N(10_000), r.Int64N(1 << 20)}[r.IntN(4)]
		f.sparse(fmt.Sprintf("f%d", i), size, regions...)
	}
	st := newStore(t)
	res := mustBuild(t, st, f, options())
	compare(t, st, res.Image, f)
}

// generated is content that is made while it is read, so that only the builder takes memory.
type generated struct{ size, pos int64 }

func (g *generated) Close() error { return nil }

func (g *generated) NextData(off int64) (start, end int64, err error) { return off, g.size, nil }

func (g *generated) Read(p []byte) (int, error) {
	n := min(int64(len(p)), g.size-g.pos)
	seed := g.pos
	for i := range p[:n] {
		if i%64 == 0 {
			seed = seed*6364136223846793005 + 1442695040888963407
		}
		p[i] = byte(seed >> (i % 8))
	}
	g.pos += n
	return int(n), nil
}

func TestMemoryIsBounded(t *testing.T) {
	f := &fake{random: true}
	const size = 48 << 20
	for i := range 6 {
		f.add(fmt.Sprintf("f%d", i), &erofs.Node{Mode: unix.S_IFREG, Size: size + int64(i)}, func() (source.Content, error) {
			return &generated{size: size + int64(i), pos: 0}, nil
		})
	}
	o := build.Defaults()
	o.Tag, o.Codec, o.Level = "t", format.LZ4, 1
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	most := uint64(0)
	o.Progress = func(build.Progress) {
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapAlloc)
	}
	mustBuild(t, newStore(t), f, o)
	if most > before.HeapAlloc+200<<20 {
		t.Errorf("%d bytes of memory for 6 files of %d", most-before.HeapAlloc, size)
	}
}

// The smallest image has a root and nothing else.
func TestEmptyDirectory(t *testing.T) {
	dir := t.TempDir()
	src, err := source.Directory(dir, source.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	st := newStore(t)
	began := time.Now()
	r := mustBuild(t, st, src, options())
	if r.Files != 1 || r.Device != 0 || r.Chunks != 0 || r.Took <= 0 || r.Took > time.Since(began) {
		t.Errorf("an empty directory: %+v", r)
	}
	im := openImage(t, st, r.Image)
	if len(im.root.Entries) != 0 {
		t.Errorf("%v", im.root.Entries)
	}
}
