package build_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

// fake is a source in memory, which may break in the ways of real ones.
type fake struct {
	items  []source.Item
	random bool
	err    error // of Walk, when it is through
	during func(i int)
}

func (f *fake) Random() bool { return f.random }
func (f *fake) Total() int64 { return int64(len(f.items)) }
func (f *fake) Done() int64  { return 0 }
func (f *fake) Close() error { return nil }

func (f *fake) Walk(ctx context.Context, visit func(source.Item) error) error {
	for i, item := range f.items {
		if f.during != nil {
			f.during(i)
		}
		if err := errors.Join(ctx.Err(), visit(item)); err != nil {
			return err
		}
	}
	return f.err
}

func (f *fake) add(path string, n *erofs.Node, open func() (source.Content, error)) *erofs.Node {
	if n.ModTime.IsZero() {
		n.ModTime = time.Unix(1_600_000_000, 123456789)
	}
	f.items = append(f.items, source.Item{Path: path, Node: n, Open: open})
	return n
}

func (f *fake) dir(path string) { f.add(path, &erofs.Node{Mode: unix.S_IFDIR | 0o750}, nil) }

// file adds a regular file whose content is all data.
func (f *fake) file(path string, data []byte) *erofs.Node {
	return f.sparse(path, int64(len(data)), region{0, data})
}

// sparse adds a regular file that has data in some regions, in order.
func (f *fake) sparse(path string, size int64, regions ...region) *erofs.Node {
	n := &erofs.Node{Mode: unix.S_IFREG | 0o644, Size: size}
	if size == 0 {
		return f.add(path, n, nil)
	}
	return f.add(path, n, func() (source.Content, error) { return &content{size: size, regions: regions}, nil })
}

type region struct {
	off  int64
	data []byte
}

// content reads regions as the contract of source.Content says.
type content struct {
	size    int64
	regions []region
	pos     int64
	failAt  int64 // Read fails from there on
	closed  error
}

func (c *content) Close() error { return c.closed }

func (c *content) Read(p []byte) (int, error) {
	if c.pos >= c.size {
		return 0, io.EOF
	}
	if c.failAt > 0 && c.pos >= c.failAt {
		return 0, errors.New("the disk is gone")
	}
	p = p[:min(int64(len(p)), c.size-c.pos)]
	clear(p)
	for _, r := range c.regions {
		if r.off < c.pos+int64(len(p)) && r.off+int64(len(r.data)) > c.pos {
			if r.off >= c.pos {
				copy(p[r.off-c.pos:], r.data)
			} else {
				copy(p, r.data[c.pos-r.off:])
			}
		}
	}
	c.pos += int64(len(p))
	return len(p), nil
}

func (c *content) NextData(off int64) (start, end int64, err error) {
	if off < c.pos {
		return 0, 0, errors.New("NextData goes back")
	}
	for _, r := range c.regions {
		if end := r.off + int64(len(r.data)); end > off {
			c.pos = max(off, r.off)
			return c.pos, end, nil
		}
	}
	return 0, 0, io.EOF
}

// noise is n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	_, _ = r.Read(b)
	return b
}

// text is n bytes that compress.
func text(seed uint64, n int) []byte {
	words := strings.Fields("the kernel is truth and record promise of chain image chunk blob device layer")
	r := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for b.Len() < n {
		b.WriteString(words[r.IntN(len(words))])
		b.WriteByte(' ')
	}
	return b.Bytes()[:n]
}

// everything is a source with one of every case that content can be.
func everything(random bool) *fake {
	f := &fake{random: random}
	f.dir(".")
	f.dir("small")
	for i := range uint64(300) {
		f.file(path.Join("small", "f"+string(rune('a'+i%26))+strings.Repeat("x", int(i/26))), text(i, int(i*i)%9000))
	}
	f.file("small/twin", text(77, 77*77%9000))
	f.file("small/zero", make([]byte, 3000))
	f.file("small/\xff\xfe", text(5, 5))
	big := text(1000, 900_000)
	f.file("big", big)
	f.file("again/big", big)
	f.file("big+1", append(bytes.Clone(big), 'x'))
	f.file("1+big", append([]byte{'x'}, big...))
	f.file("noise", noise(1, 700_001))
	f.file("zero", make([]byte, 500_000))
	f.file("zero-short", make([]byte, 40_000))
	f.file("zeros-inside", bytes.Join([][]byte{text(1, 70_000), make([]byte, 200_000), text(2, 70_000), make([]byte, 30_000), text(3, 10), make([]byte, 50_000)}, nil))
	f.sparse("hole", 1<<40)
	f.sparse("sparse", 3<<20+17, region{5000, noise(2, 100)}, region{5200, noise(3, 100_000)}, region{1 << 20, noise(4, 4096)}, region{3<<20 + 10, noise(5, 7)})
	f.sparse("huge", 1<<34, region{0, text(1, 100)}, region{1<<33 + 12345, noise(6, 50_000)}, region{1<<34 - 3, []byte("end")})
	f.sparse("sparse-small", 9000, region{4000, []byte("x")})
	f.file("empty", nil)
	linked := f.file("link-a", text(8, 50_000))
	f.add("link-b", linked, nil)
	f.add("link", &erofs.Node{Mode: unix.S_IFLNK | 0o777, Target: "big"}, nil)
	f.add("null", &erofs.Node{Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)}, nil)
	f.file("late/a/b", text(9, 10_000))
	f.add("late/a", &erofs.Node{Mode: unix.S_IFDIR | 0o700, UID: 70_000, Xattrs: []erofs.Xattr{{Name: "user.x", Value: []byte("y")}}}, nil)
	f.file("replaced", text(10, 100_000))
	f.file("replaced", text(11, 20_000))
	f.file("dir-then-file/x", text(12, 10))
	f.file("dir-then-file", text(13, 10))
	f.file("file-then-dir", text(14, 10))
	f.file("file-then-dir/x", text(15, 60_000))
	return f
}

// options are small ones, so that small trees have many chunks and packs.
func options() build.Options {
	o := build.Defaults()
	o.Tag = "test"
	o.MinChunk, o.AvgChunk, o.MaxChunk, o.Group, o.PackSize = 4<<10, 16<<10, 64<<10, 8<<10, 256<<10
	return o
}

func newStore(t testing.TB) *store.Store {
	t.Helper()
	st, err := store.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func mustBuild(t testing.TB, st *store.Store, src source.Source, o build.Options) build.Result {
	t.Helper()
	r, err := build.Build(t.Context(), src, st, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// image is a built one, read back from its store.
type image struct {
	t     testing.TB
	index *format.Index
	root  *erofs.Node
	packs []*os.File
	dec   *format.Decoder
}

func openImage(t testing.TB, st *store.Store, d format.Digest) *image {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	m, err := st.Manifest(d)
	check(err)
	i := &image{t: t}
	i.index, err = st.Index(m)
	check(err)
	meta, err := st.Metadata(m)
	check(err)
	im, err := erofs.Open(bytes.NewReader(meta), int64(len(meta)))
	check(err)
	if im.DeviceSize() != i.index.DeviceSize || m.Device != i.index.DeviceSize {
		t.Fatalf("device of %d bytes in the manifest, %d in the metadata, %d in the index", m.Device, im.DeviceSize(), i.index.DeviceSize)
	}
	i.root, err = im.Tree()
	check(err)
	i.dec, err = format.NewDecoder()
	check(err)
	for _, p := range i.index.Packs {
		f, err := st.OpenPack(p, m.Algorithm)
		check(err)
		t.Cleanup(func() { f.Close() })
		i.packs = append(i.packs, f)
	}
	return i
}

// find gives the node at a path.
func (i *image) find(path string) *erofs.Node {
	i.t.Helper()
	n := i.root
	if path == "." {
		return n
	}
next:
	for name := range strings.SplitSeq(path, "/") {
		for _, e := range n.Entries {
			if e.Name == name {
				n = e.Node
				continue next
			}
		}
		i.t.Fatalf("%q is not in the image", path)
	}
	return n
}

// device reads a range of the data device, verified.
func (i *image) device(off, size int64) []byte {
	i.t.Helper()
	out := make([]byte, 0, size)
	for n := i.index.Find(off); int64(len(out)) < size; n++ {
		e, start := i.index.Extents[n], i.index.Start(n)
		plain := make([]byte, e.Size)
		if e.Chunk != format.Zero {
			c := i.index.Chunks[e.Chunk]
			stored := make([]byte, c.Stored)
			if _, err := i.packs[c.Pack].ReadAt(stored, int64(c.Offset)); err != nil {
				i.t.Fatal(err)
			}
			var err error
			if plain, err = i.dec.Chunk(nil, i.index.Algorithm, c, stored); err != nil {
				i.t.Fatal(err)
			}
		}
		from := max(off+int64(len(out))-start, 0)
		out = append(out, plain[from:min(e.Size, from+size-int64(len(out)))]...)
	}
	return out
}

// same holds a file's content in the image against that of the source, where either has data.
func (i *image) same(path string, n *erofs.Node, want *content) {
	i.t.Helper()
	if n.Data != nil {
		b, err := io.ReadAll(want)
		if err != nil || !bytes.Equal(b, n.Data) {
			i.t.Errorf("%q: another content, or %v", path, err)
		}
		return
	}
	at := int64(0)
	for _, e := range n.Extents {
		i.zeros(path, want, at, e.Offset)
		got := i.device(e.Device, e.Size)
		b := make([]byte, e.Size)
		if _, err := io.ReadFull(&content{size: want.size, regions: want.regions, pos: e.Offset}, b); err != nil || !bytes.Equal(b, got) {
			i.t.Errorf("%q: other content in %d bytes at %d, or %v", path, e.Size, e.Offset, err)
		}
		at = e.Offset + e.Size
	}
	i.zeros(path, want, at, want.size)
}

// zeros says that the source has nothing but zeros where the image has a hole.
func (i *image) zeros(path string, want *content, from, to int64) {
	i.t.Helper()
	for _, r := range want.regions {
		start, end := max(from-r.off, 0), min(to-r.off, int64(len(r.data)))
		if start < end && len(bytes.Trim(r.data[start:end], "\x00")) > 0 {
			i.t.Errorf("%q: a hole from %d to %d where there is data", path, from, to)
		}
	}
}
