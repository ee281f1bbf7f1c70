package store_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// peer is a store as a Peer.
type peer struct{ *store.Store }

func (p peer) Tag(_ context.Context, name string) (format.Digest, error) { return p.Store.Tag(name) }
func (p peer) Blob(_ context.Context, d format.Digest, limit int64) ([]byte, error) {
	return p.Store.Blob(d, limit)
}
func (p peer) Trace(_ context.Context, image format.Digest, role string) ([]byte, error) {
	t, err := p.Store.Trace(image, role)
	if err != nil {
		return nil, err
	}
	return format.EncodeTrace(t)
}

// copyOf copies what readers see of a store.
func copyOf(t *testing.T, s *store.Store) *store.Store {
	t.Helper()
	dir := t.TempDir()
	for _, top := range []string{"blobs", "tags", "traces"} {
		if err := os.CopyFS(filepath.Join(dir, top), os.DirFS(filepath.Join(s.Dir(), top))); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(s.Dir(), format.StoreFile))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, format.StoreFile), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func smallStore(t *testing.T) *store.Store {
	t.Helper()
	s := newStore(t)
	d := publish(t, s, "a/b", 1, 2)
	err := s.PutTrace(t.Context(), &format.Trace{Version: 1, Image: d, Role: "boot", Paths: []string{"file-001"},
		Chunks: []format.Sum{format.BLAKE3.Sum(content(2))}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mendEach is how many flips are mended each: mending takes longer than finding.
const mendEach = 16

func TestEveryFlippedByteIsFoundAndMended(t *testing.T) {
	s := smallStore(t)
	good := peer{copyOf(t, s)}
	flips := 0
	for _, name := range slices.Concat(files(t, s, "tags"), files(t, s, "blobs"), files(t, s, "traces"), []string{format.StoreFile}) {
		p := filepath.Join(s.Dir(), name)
		whole, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole {
			if strings.HasPrefix(name, "traces") && stillTrue(whole, i) {
				continue
			}
			damaged := slices.Clone(whole)
			damaged[i] ^= 1 << (i % 8)
			if err := os.WriteFile(p, damaged, 0o644); err != nil {
				t.Fatal(err)
			}
			flips++
			mend := found(t, s, name, i) && i%mendEach == 0
			if !mend {
				err = os.WriteFile(p, whole, 0o644)
			} else if mended(t, s, good, name, i); err == nil {
				var now []byte
				if now, err = os.ReadFile(p); !bytes.Equal(now, whole) {
					t.Fatalf("byte %d of %s: repair left something else", i, name)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d bytes flipped", flips)
	sound(t, s)
}

// stillTrue says whether a trace may name something else of the image after the flip: the digit of a file's name.
func stillTrue(trace []byte, i int) bool {
	at := bytes.Index(trace, []byte("file-001"))
	return i >= at+len("file-") && i < at+len("file-001")
}

// found fails the test unless a check names the file. It says whether the damage is one that is mended: a later layout is not.
func found(t *testing.T, s *store.Store, name string, at int) bool {
	t.Helper()
	s, err := store.OpenDamaged(s.Dir())
	if name == format.StoreFile && fault.Is(err, fault.Unsupported) {
		return false
	}
	if err != nil {
		t.Fatalf("byte %d of %s: %v", at, name, err)
	}
	r, err := s.Check(t.Context(), store.CheckOptions{})
	if err != nil {
		t.Fatalf("byte %d of %s: %v", at, name, err)
	}
	if !slices.ContainsFunc(r.Damages, func(d store.Damage) bool { return d.Path == name && !d.Mended && d.Error != "" }) {
		t.Fatalf("byte %d of %s: not found, but %+v", at, name, r.Damages)
	}
	return true
}

func mended(t *testing.T, s *store.Store, good store.Peer, name string, at int) {
	t.Helper()
	s, err := store.OpenDamaged(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Check(t.Context(), store.CheckOptions{Peer: good})
	if err != nil || r.Damaged() > 0 {
		t.Fatalf("byte %d of %s: %v, %+v", at, name, err, r.Damages)
	}
}

func TestADamagedPackNamesItsChunksImagesAndFiles(t *testing.T) {
	s := newStore(t)
	d := publish(t, s, "v1", 1, 2, 3, 4)
	publish(t, s, "v2", 1, 2, 3, 4, 5)
	x := indexOf(t, s, d)
	path := format.BlobPath(format.Digest{Algorithm: format.BLAKE3, Sum: x.Packs[0].Sum})
	b, err := os.ReadFile(filepath.Join(s.Dir(), path))
	if err != nil {
		t.Fatal(err)
	}
	b[x.Chunks[2].Offset+9] ^= 1
	if err := os.WriteFile(filepath.Join(s.Dir(), path), b, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, refs := range [][]string{nil, {"v1", "v2"}} {
		r, err := s.Check(t.Context(), store.CheckOptions{Refs: refs})
		if err != nil || len(r.Damages) != 1 {
			t.Fatalf("got %+v, %v", r, err)
		}
		got := r.Damages[0]
		if got.What != store.PackDamage || !slices.Equal(got.Images, []string{"v1", "v2"}) || got.Path != path ||
			!slices.Equal(got.Files, []string{"file-002"}) || !slices.Equal(got.Chunks, []format.Sum{x.Chunks[2].Sum}) {
			t.Errorf("got %+v", got)
		}
	}
	if err := os.Truncate(filepath.Join(s.Dir(), path), int64(x.Chunks[3].Offset)); err != nil {
		t.Fatal(err)
	}
	r, err := s.Check(t.Context(), store.CheckOptions{Refs: []string{"v1"}})
	if err != nil || len(r.Damages) != 1 || !slices.Equal(r.Damages[0].Files, []string{"file-002", "file-003"}) {
		t.Fatalf("cut off: %+v, %v", r, err)
	}
}

func TestWhatThePeerDoesNotHaveStaysDamaged(t *testing.T) {
	s, other := smallStore(t), newStore(t)
	publish(t, other, "x", 7)
	d, _ := s.Tag("a/b")
	x := indexOf(t, s, d)
	if err := os.Remove(filepath.Join(s.Dir(), format.BlobPath(format.Digest{Algorithm: format.BLAKE3, Sum: x.Packs[0].Sum}))); err != nil {
		t.Fatal(err)
	}
	r, err := s.Check(t.Context(), store.CheckOptions{Peer: peer{other}})
	if err != nil || r.Damaged() != 1 || !strings.Contains(r.Damages[0].Error, "the pack is missing; not mended: ") {
		t.Fatalf("got %+v, %v", r, err)
	}
}

// liar is a peer that gives other bytes than asked for.
type liar struct{ peer }

func (liar) Blob(context.Context, format.Digest, int64) ([]byte, error) { return []byte("lies"), nil }

func TestAPeerIsNotBelieved(t *testing.T) {
	s := smallStore(t)
	good := copyOf(t, s)
	d, _ := s.Tag("a/b")
	p := filepath.Join(s.Dir(), format.BlobPath(d))
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
	r, err := s.Check(t.Context(), store.CheckOptions{Peer: liar{peer{good}}})
	if err != nil || r.Damaged() == 0 {
		t.Fatalf("got %+v, %v", r, err)
	}
	if _, err := os.Stat(p); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("lies were stored")
	}
}

func TestABlobThatNoImageNeedsIsCheckedToo(t *testing.T) {
	s := smallStore(t)
	txn := begin(t, s)
	d, err := txn.Put(t.Context(), []byte("left over"), format.BLAKE3)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), format.BlobPath(d)), []byte("left Over"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := s.Check(t.Context(), store.CheckOptions{})
	if err != nil || len(r.Damages) != 1 || r.Damages[0].What != store.BlobDamage {
		t.Fatalf("got %+v, %v", r, err)
	}
	if r, err = s.Check(t.Context(), store.CheckOptions{Peer: peer{s}}); err != nil || r.Damaged() > 0 {
		t.Fatalf("got %+v, %v", r, err)
	}
	sound(t, s)
}
