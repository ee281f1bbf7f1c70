package image_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/image"
)

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Create(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// publish makes an image of a tree and its data device, cut anyhow, in packs of 300 kB.
func publish(t *testing.T, s *store.Store, tag string, root *erofs.Node, data []byte, seed uint64) format.Digest {
	t.Helper()
	txn, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer txn.End()
	m := &maker{t: t, txn: txn, x: &format.Index{Algorithm: format.BLAKE3, DeviceSize: int64(len(data))}, seen: map[format.Sum]uint32{}}
	m.cut(data, rand.New(rand.NewPCG(seed, 1)))
	d := m.manifest(root)
	if err := txn.Tag(t.Context(), tag, d); err != nil {
		t.Fatal(err)
	}
	return d
}

type maker struct {
	t    *testing.T
	txn  *store.Txn
	x    *format.Index
	seen map[format.Sum]uint32
	pack *store.PackWriter
	open []int // chunks of the pack
}

func (m *maker) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *maker) cut(data []byte, r *rand.Rand) {
	m.t.Helper()
	enc, err := format.NewEncoder(format.Zstd, 1)
	m.must(err)
	for len(data) > 0 {
		n := min(1000+r.IntN(60_000), len(data))
		plain := data[:n]
		data = data[n:]
		if len(bytes.Trim(plain, "\x00")) == 0 {
			if k := len(m.x.Extents); k > 0 && m.x.Extents[k-1].Chunk == format.Zero {
				m.x.Extents[k-1].Size += int64(n)
			} else {
				m.x.Extents = append(m.x.Extents, format.Extent{Size: int64(n), Chunk: format.Zero})
			}
			continue
		}
		sum := format.BLAKE3.Sum(plain)
		number, known := m.seen[sum]
		if !known {
			number = uint32(len(m.x.Chunks))
			m.seen[sum] = number
			stored, codec := enc.Encode(nil, plain)
			m.add(format.Chunk{Sum: sum, Size: uint32(n), Codec: codec, Stored: uint32(len(stored))}, stored)
		}
		m.x.Extents = append(m.x.Extents, format.Extent{Size: int64(n), Chunk: number})
	}
	m.commit()
}

func (m *maker) add(c format.Chunk, stored []byte) {
	m.t.Helper()
	var err error
	if m.pack == nil {
		m.pack, err = m.txn.Pack(m.x.Algorithm)
		m.must(err)
	}
	off, err := m.pack.Add(stored)
	m.must(err)
	c.Offset = uint32(off)
	m.open = append(m.open, len(m.x.Chunks))
	m.x.Chunks = append(m.x.Chunks, c)
	if m.pack.Size() > 300_000 {
		m.commit()
	}
}

func (m *maker) commit() {
	m.t.Helper()
	if m.pack == nil {
		return
	}
	p, err := m.pack.Commit(m.t.Context())
	m.must(err)
	for _, i := range m.open {
		m.x.Chunks[i].Pack = uint32(len(m.x.Packs))
	}
	m.x.Packs = append(m.x.Packs, p)
	m.pack, m.open = nil, nil
}

func (m *maker) manifest(root *erofs.Node) format.Digest {
	m.t.Helper()
	man := &format.Manifest{Version: format.Version, Algorithm: m.x.Algorithm, Device: m.x.DeviceSize, Files: 1}
	for _, c := range m.x.Chunks {
		man.Stored += int64(c.Stored)
	}
	plain, err := m.x.Encode()
	m.must(err)
	man.Index = m.blob(func(w io.Writer) error { _, err := w.Write(plain); return err })
	man.Metadata = m.blob(func(w io.Writer) error {
		_, err := erofs.Write(w, root, erofs.Options{DeviceSize: m.x.DeviceSize})
		return err
	})
	b, err := man.Encode()
	m.must(err)
	d, err := m.txn.Put(m.t.Context(), b, m.x.Algorithm)
	m.must(err)
	return d
}

func (m *maker) blob(write func(io.Writer) error) format.Blob {
	m.t.Helper()
	b, stored, err := format.EncodeBlob(m.x.Algorithm, 1, write)
	m.must(err)
	_, err = m.txn.Put(m.t.Context(), stored, m.x.Algorithm)
	m.must(err)
	return b
}

// sample is the tree of erofstest without what is not unpacked on purpose, as an image.
func sample(t *testing.T) (*erofstest.Sample, *image.Image) {
	t.Helper()
	s := erofstest.New()
	for _, e := range s.Root.Entries {
		if e.Name == "acl" {
			e.Node.Xattrs = []erofs.Xattr{e.Node.Xattrs[0], e.Node.Xattrs[2]}
		}
	}
	st := newStore(t)
	publish(t, st, "sample", s.Root, s.Data, 1)
	return s, find(t, st.Dir(), "sample")
}

func find(t *testing.T, at, ref string) *image.Image {
	t.Helper()
	o, err := image.OpenOrigin(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	i, err := o.Image(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// tmpfs mounts one, which has room for times and attributes that other file systems have not.
func tmpfs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	mount(t, "tmpfs", "tmpfs", dir, 0)
	return dir
}

func mount(t *testing.T, source, kind, target string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, ""); err != nil {
		t.Fatalf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
}

// run runs a program of the system that reads what we wrote.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// without takes the entries with these names away.
func without(n *erofs.Node, drop func(name string, n *erofs.Node) bool) *erofs.Node {
	out := *n
	out.Entries = nil
	for _, e := range n.Entries {
		if !drop(e.Name, e.Node) {
			if e.Node.Mode&unix.S_IFMT == unix.S_IFDIR {
				e.Node = without(e.Node, drop)
			}
			out.Entries = append(out.Entries, e)
		}
	}
	return &out
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}
