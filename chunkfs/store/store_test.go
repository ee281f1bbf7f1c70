package store_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func wantKind(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v (%s), want an error of kind %s", err, fault.KindOf(err), kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is missing in: %v", w, err)
		}
	}
}

func TestAStoreIsMadeOnceAndOpened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "store")
	if _, err := store.Open(dir); true {
		wantKind(t, err, fault.NotFound, dir)
	}
	for range 2 {
		if _, err := store.Create(dir); err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s, "a", 1)
	if _, err := store.Create(dir); err != nil {
		t.Fatal(err)
	}
	sound(t, s)
}

func TestADirectoryOfSomebodyIsNoPlaceForAStore(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Create(dir)
	wantKind(t, err, fault.Exists, "thesis.tex")
}

func TestALaterLayoutIsRefused(t *testing.T) {
	s := newStore(t)
	if err := os.WriteFile(filepath.Join(s.Dir(), format.StoreFile), []byte("{\"layout\":2}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(s.Dir())
	wantKind(t, err, fault.Unsupported, "layout 2")
}

func TestWebServersCanReadAllThatReadersNeed(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	s := newStore(t)
	d := publish(t, s, "debian/12", 1, 2, 3, 4, 5)
	if err := s.PutTrace(t.Context(), &format.Trace{Version: 1, Image: d, Role: "boot"}); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(s.Dir(), func(p string, e fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(p, filepath.Join(s.Dir(), "leases")) {
			return err
		}
		st, err := e.Info()
		want := fs.FileMode(0o644)
		if e.IsDir() {
			want = 0o755
		}
		if err == nil && st.Mode().Perm() != want {
			t.Errorf("%s has mode %o", p, st.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(s.Dir(), "leases")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("leases: %v, %v", st.Mode(), err)
	}
}

func TestTagsMoveAndGo(t *testing.T) {
	s := newStore(t)
	one, two := publish(t, s, "debian/12:latest", 1), publish(t, s, "plain", 2)
	for name, want := range map[string]format.Digest{"debian/12:latest": one, "plain": two} {
		if got, err := s.Tag(name); err != nil || got != want {
			t.Fatalf("%s: got %s, %v", name, got, err)
		}
	}
	txn := begin(t, s)
	if err := txn.Tag(t.Context(), "plain", one); err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Resolve("plain"); got != one {
		t.Fatalf("the tag did not move: %s", got)
	}
	if got, err := s.Resolve(two.String()); got != two || err != nil {
		t.Fatalf("by digest: %s, %v", got, err)
	}
	list, err := s.Tags()
	if err != nil || len(list) != 2 || list[0].Name != "debian/12:latest" || list[1].Name != "plain" {
		t.Fatalf("got %+v, %v", list, err)
	}
	if d, err := s.RemoveTag(t.Context(), "debian/12:latest"); err != nil || d != one {
		t.Fatalf("got %s, %v", d, err)
	}
	if err := txn.Tag(t.Context(), "debian", two); err != nil {
		t.Fatalf("the directory of a tag that went keeps its name: %v", err)
	}
	_, err = s.Tag("debian/12:latest")
	wantKind(t, err, fault.NotFound, "debian/12:latest")
	_, err = s.RemoveTag(t.Context(), "debian/12:latest")
	wantKind(t, err, fault.NotFound)
}

func TestATagIsNeverTheBeginningOfAnother(t *testing.T) {
	s := newStore(t)
	d := publish(t, s, "debian", 1)
	txn := begin(t, s)
	wantKind(t, txn.Tag(t.Context(), "debian/12", d), fault.Exists)
	if err := txn.Tag(t.Context(), "rocky/9", d); err != nil {
		t.Fatal(err)
	}
	wantKind(t, txn.Tag(t.Context(), "rocky", d), fault.Exists)
	wantKind(t, txn.Tag(t.Context(), "../x", d), fault.Invalid)
}

func TestOnlyWholeImagesGetATag(t *testing.T) {
	s := newStore(t)
	d := publish(t, s, "a", 1, 2, 3)
	x := indexOf(t, s, d)
	pack := format.BlobPath(format.Digest{Algorithm: format.BLAKE3, Sum: x.Packs[0].Sum})
	if err := os.Remove(filepath.Join(s.Dir(), pack)); err != nil {
		t.Fatal(err)
	}
	txn := begin(t, s)
	wantKind(t, txn.Tag(t.Context(), "b", d), fault.NotFound, "pack")
	wantKind(t, txn.Tag(t.Context(), "b", format.BLAKE3.Of([]byte("?"))), fault.NotFound)
	wantKind(t, s.Pin(t.Context(), d, ""), fault.NotFound)
	if _, err := s.Tag("b"); !fault.Is(err, fault.NotFound) {
		t.Fatalf("there is a tag: %v", err)
	}
}

func indexOf(t *testing.T, s *store.Store, d format.Digest) *format.Index {
	t.Helper()
	m, err := s.Manifest(d)
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Index(m)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestTheSameBlobIsStoredOnceAndADamagedOneAgain(t *testing.T) {
	s := newStore(t)
	txn := begin(t, s)
	d, err := txn.Put(t.Context(), []byte("content"), format.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(s.Dir(), format.BlobPath(d))
	before, _ := os.Stat(p)
	if _, err := txn.Put(t.Context(), []byte("content"), format.SHA256); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(p); !os.SameFile(before, after) {
		t.Error("it was written again")
	}
	if err := os.WriteFile(p, []byte("cOntent"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Blob(d, 100); true {
		wantKind(t, err, fault.Corrupt, d.String())
	}
	if _, err := txn.Put(t.Context(), []byte("content"), format.SHA256); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Blob(d, 100); err != nil || !bytes.Equal(b, []byte("content")) {
		t.Fatalf("got %q, %v", b, err)
	}
	_, err = s.Blob(d, 3)
	wantKind(t, err, fault.TooLarge)
}

func TestKnownChunksAreReused(t *testing.T) {
	s := newStore(t)
	publish(t, s, "v1", 1, 2, 3, 4, 5, 6, 7, 8)
	before := files(t, s, "blobs")
	txn := begin(t, s)
	known, err := txn.Known(t.Context(), format.BLAKE3)
	if err != nil || known.Len() != 8 {
		t.Fatalf("%d chunks are known, %v", known.Len(), err)
	}
	d, err := put(t.Context(), txn, format.BLAKE3, known, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	if err != nil {
		t.Fatal(err)
	}
	if err := txn.Tag(t.Context(), "v2", d); err != nil {
		t.Fatal(err)
	}
	if n := len(files(t, s, "blobs")) - len(before); n != 4 { // manifest, index, metadata and one pack
		t.Errorf("the second version has %d new blobs", n)
	}
	sound(t, s)
	if none, err := txn.Known(t.Context(), format.SHA256); err != nil || none.Len() != 0 {
		t.Errorf("of another algorithm %d are known, %v", none.Len(), err)
	}
}

func TestAPackHasALimit(t *testing.T) {
	s := newStore(t)
	txn := begin(t, s)
	w, err := txn.Pack(format.BLAKE3)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	piece := make([]byte, 64<<20)
	for range format.MaxPack / len(piece) {
		if _, err := w.Add(piece); err != nil {
			t.Fatal(err)
		}
	}
	_, err = w.Add(piece[:1])
	wantKind(t, err, fault.TooLarge)
	if w.Size() != format.MaxPack {
		t.Errorf("size %d", w.Size())
	}
	w.Abort()
	empty, err := txn.Pack(format.BLAKE3)
	if err != nil {
		t.Fatal(err)
	}
	_, err = empty.Commit(t.Context())
	wantKind(t, err, fault.Invalid)
	txn.End()
	if left := files(t, s, "leases"); !slices.Equal(left, []string{"leases/lock"}) {
		t.Errorf("left: %v", left)
	}
}

func TestTracesTravelWithTheirImage(t *testing.T) {
	s := newStore(t)
	d := publish(t, s, "a", 1)
	want := &format.Trace{Version: 1, Image: d, Role: "boot", Paths: []string{"file-000"}, Chunks: []format.Sum{format.BLAKE3.Sum(content(1))}}
	if err := s.PutTrace(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got, err := s.Trace(d, "boot")
	if err != nil || !slices.Equal(got.Paths, want.Paths) || !slices.Equal(got.Chunks, want.Chunks) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if roles, err := s.Roles(d); err != nil || !slices.Equal(roles, []string{"boot"}) {
		t.Fatalf("got %v, %v", roles, err)
	}
	_, err = s.Trace(d, "job")
	wantKind(t, err, fault.NotFound)
	other := *want
	other.Image = format.BLAKE3.Of(nil)
	wantKind(t, s.PutTrace(t.Context(), &other), fault.NotFound)
	if _, err := s.RemoveTag(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if r := collect(t, s, store.GCOptions{}); r.Traces != 1 {
		t.Errorf("%d traces went", r.Traces)
	}
	if left := files(t, s, "traces"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
