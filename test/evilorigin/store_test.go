package evilorigin_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// store is what a good server has: a pack, a large and a small blob, a tag and a trace.
type store struct {
	files  map[string][]byte
	pack   format.Pack
	pieces []origin.Piece
	sums   []format.Sum
	large  format.Digest
	small  format.Digest
}

const (
	algorithm = format.SHA256 // is quick in a race build too
	tagName   = "debian:12"
	role      = "boot"
)

func newStore(t testing.TB, seed byte) *store {
	t.Helper()
	r := rand.NewChaCha8([32]byte{seed})
	random := func(n int) []byte {
		b := make([]byte, n)
		_, _ = r.Read(b)
		return b
	}
	s := &store{files: map[string][]byte{}}
	put := func(b []byte) format.Digest {
		d := algorithm.Of(b)
		s.files[format.BlobPath(d)] = b
		return d
	}
	pack := random(512 << 10)
	s.pack = format.Pack{Sum: put(pack).Sum, Size: int64(len(pack))}
	for at := int64(1000); at+60_000 < s.pack.Size; at += 61_000 { // gaps of 1,000 between them
		s.pieces = append(s.pieces, origin.Piece{Offset: at, Size: 60_000})
		s.sums = append(s.sums, algorithm.Sum(pack[at:at+60_000]))
	}
	s.large, s.small = put(random(1_300_000)), put(random(700))
	s.files[mustPath(t)(format.TagPath(tagName))] = []byte(s.small.String() + "\n")
	s.files[mustPath(t)(format.TracePath(s.small, role))] = []byte(`{"version":1}`)
	s.files[format.StoreFile] = []byte(`{"layout":1}`)
	return s
}

func mustPath(t testing.TB) func(string, error) string {
	return func(p string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// fetch gets all pieces and checks them as a cache does.
func (s *store) fetch(ctx context.Context, f origin.Fetcher, class origin.Class) error {
	got := make([]bool, len(s.pieces))
	err := f.Fetch(ctx, algorithm, origin.Fetch{Pack: s.pack, Pieces: s.pieces, Class: class, Deliver: func(i int, b []byte) error {
		if got[i] {
			return fmt.Errorf("piece %d came twice", i)
		}
		if algorithm.Sum(b) != s.sums[i] {
			return fault.New(fault.Corrupt, "chunk %s has another digest", s.sums[i])
		}
		got[i] = true
		return nil
	}})
	if err != nil {
		return err
	}
	for i, ok := range got {
		if !ok {
			return fmt.Errorf("piece %d did not come", i)
		}
	}
	return nil
}

func (s *store) blob(ctx context.Context, f origin.Fetcher, d format.Digest) error {
	b, err := f.Blob(ctx, d, 4<<20)
	if err == nil && !bytes.Equal(b, s.files[format.BlobPath(d)]) {
		return fmt.Errorf("blob has other bytes")
	}
	return err
}

func (s *store) tag(ctx context.Context, f origin.Fetcher) error {
	d, err := f.Tag(ctx, tagName)
	if err == nil && d != s.small {
		return fmt.Errorf("tag is %s, not %s", d, s.small)
	}
	return err
}

// wish is something that a reader asks an origin for.
type wish = func(context.Context, origin.Fetcher) error

// most is what differs most of all that a reader asks for, by name.
func (s *store) most() map[string]wish {
	return map[string]wish{
		"fetch":      func(ctx context.Context, f origin.Fetcher) error { return s.fetch(ctx, f, origin.Demand) },
		"large blob": func(ctx context.Context, f origin.Fetcher) error { return s.blob(ctx, f, s.large) },
		"tag":        s.tag,
	}
}

// everything is most, and the rest.
func (s *store) everything() map[string]wish {
	all := s.most()
	all["read ahead"] = func(ctx context.Context, f origin.Fetcher) error { return s.fetch(ctx, f, origin.ReadAhead) }
	all["small blob"] = func(ctx context.Context, f origin.Fetcher) error { return s.blob(ctx, f, s.small) }
	all["trace"] = func(ctx context.Context, f origin.Fetcher) error {
		_, err := f.Trace(ctx, s.small, role)
		return err
	}
	return all
}
