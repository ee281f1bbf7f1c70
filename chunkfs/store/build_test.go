package store_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

const chunkSize = 2 * format.BlockSize

// content is the chunk number n, which is the same wherever it is used.
func content(n int) []byte {
	b := make([]byte, chunkSize)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	_, _ = r.Read(b[:256])
	return b
}

// put stores an image of one file a chunk, in packs of four chunks, and reuses what known has. It gives the manifest's digest.
func put(ctx context.Context, txn *store.Txn, alg format.Algorithm, known *store.Known, chunks ...int) (format.Digest, error) {
	x := &format.Index{Algorithm: alg, DeviceSize: int64(len(chunks)) * chunkSize}
	packs := map[format.Pack]uint32{}
	number := func(p format.Pack) uint32 {
		if _, ok := packs[p]; !ok {
			packs[p] = uint32(len(packs))
			x.Packs = append(x.Packs, p)
		}
		return packs[p]
	}
	enc, err := format.NewEncoder(format.Zstd, 1)
	if err != nil {
		return format.Digest{}, err
	}
	var pack *store.PackWriter
	var open []int // chunks of the pack that is being written
	commit := func() error {
		if len(open) == 0 {
			return nil
		}
		p, err := pack.Commit(ctx)
		for _, i := range open {
			x.Chunks[i].Pack = number(p)
		}
		open = nil
		return err
	}
	for i, n := range chunks {
		plain := content(n)
		x.Extents = append(x.Extents, format.Extent{Size: chunkSize, Chunk: uint32(i)})
		if known != nil {
			if p, c, ok := known.Find(alg.Sum(plain)); ok {
				if err := commit(); err != nil {
					return format.Digest{}, err
				}
				c.Pack = number(p)
				x.Chunks = append(x.Chunks, c)
				continue
			}
		}
		if len(open) == 0 {
			if pack, err = txn.Pack(alg); err != nil {
				return format.Digest{}, err
			}
		}
		stored, codec := enc.Encode(nil, plain)
		off, err := pack.Add(stored)
		if err != nil {
			return format.Digest{}, err
		}
		x.Chunks = append(x.Chunks, format.Chunk{Sum: alg.Sum(plain), Size: chunkSize, Offset: uint32(off), Stored: uint32(len(stored)), Codec: codec})
		if open = append(open, i); len(open) == 4 {
			if err := commit(); err != nil {
				return format.Digest{}, err
			}
		}
	}
	if err := commit(); err != nil {
		return format.Digest{}, err
	}
	return putTree(ctx, txn, x, chunks)
}

func putTree(ctx context.Context, txn *store.Txn, x *format.Index, chunks []int) (format.Digest, error) {
	root := &erofs.Node{Mode: 0o40755, ModTime: time.Unix(1, 0)}
	for i := range chunks {
		root.Entries = append(root.Entries, erofs.Entry{Name: fmt.Sprintf("file-%03d", i), Node: &erofs.Node{Mode: 0o100644, Size: chunkSize,
			ModTime: time.Unix(1, 0), Extents: []erofs.Extent{{Device: int64(i) * chunkSize, Size: chunkSize}}}})
	}
	m := &format.Manifest{Version: format.Version, Algorithm: x.Algorithm, Device: x.DeviceSize, Files: int64(len(chunks)) + 1,
		Data: x.DeviceSize}
	for _, c := range x.Chunks {
		m.Stored += int64(c.Stored)
	}
	plain, err := x.Encode()
	if err != nil {
		return format.Digest{}, err
	}
	put := func(b *format.Blob, write func(io.Writer) error) error {
		blob, stored, err := format.EncodeBlob(x.Algorithm, 1, write)
		if err != nil {
			return err
		}
		*b = blob
		_, err = txn.Put(ctx, stored, x.Algorithm)
		return err
	}
	if err := put(&m.Index, func(w io.Writer) error { _, err := w.Write(plain); return err }); err != nil {
		return format.Digest{}, err
	}
	if err := put(&m.Metadata, func(w io.Writer) error {
		_, err := erofs.Write(w, root, erofs.Options{DeviceSize: x.DeviceSize})
		return err
	}); err != nil {
		return format.Digest{}, err
	}
	b, err := m.Encode()
	if err != nil {
		return format.Digest{}, err
	}
	return txn.Put(ctx, b, x.Algorithm)
}

func newStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Create(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func begin(t *testing.T, s *store.Store) *store.Txn {
	t.Helper()
	txn, err := s.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(txn.End)
	return txn
}

// publish makes an image of these chunks under a tag.
func publish(t *testing.T, s *store.Store, tag string, chunks ...int) format.Digest {
	t.Helper()
	txn := begin(t, s)
	defer txn.End()
	d, err := put(t.Context(), txn, format.BLAKE3, nil, chunks...)
	if err == nil {
		err = txn.Tag(t.Context(), tag, d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// collect runs GC.
func collect(t *testing.T, s *store.Store, o store.GCOptions) store.GCReport {
	t.Helper()
	r, err := s.GC(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sound fails the test unless a check finds nothing wrong.
func sound(t *testing.T, s *store.Store) {
	t.Helper()
	r, err := s.Check(t.Context(), store.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Damages {
		t.Errorf("damaged: %+v", d)
	}
}

// files lists the files below a directory of the store.
func files(t *testing.T, s *store.Store, rel string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.Dir(), rel), func(p string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			p, err = filepath.Rel(s.Dir(), p)
			list = append(list, p)
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return list
}
