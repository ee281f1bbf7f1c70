package cache

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// open opens a cache of which nothing is in use; close it before the next one of the directory.
func open(t testing.TB, dir string, quota int64) *Cache {
	t.Helper()
	c := reopen(t, dir, quota)
	c.Settle()
	return c
}

func reopen(t testing.TB, dir string, quota int64) *Cache {
	t.Helper()
	c, err := Open(Config{Dir: dir, Quota: quota, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shut(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func add(t testing.TB, c *Cache, i *chunktest.Image) *Image {
	t.Helper()
	m, err := c.Add(t.Context(), i.Digest, i.Manifest, i.Index, i.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// plain is what extent k of an image must be.
func plain(i *chunktest.Image, k int) []byte {
	return i.Device[i.Decoded.Start(k):i.Decoded.Start(k+1)]
}

// fill fills all that is missing, and says how many extents the cache took.
func fill(t testing.TB, m *Image, i *chunktest.Image, u Urgency) int {
	t.Helper()
	n := 0
	for k, x := range i.Decoded.Extents {
		if x.Chunk == format.Zero || m.State(k) == Good {
			continue
		}
		switch err := m.Fill(k, plain(i, k), true, u); {
		case err == nil:
			n++
		case !isFull(err):
			t.Fatal(err)
		}
	}
	return n
}

// wrong counts the extents that are there, and fails for each that is not what it should be once it is Checked.
func right(t testing.TB, m *Image, i *chunktest.Image) (there int) {
	t.Helper()
	for k := range i.Decoded.Extents {
		m.Hold(k)
		if m.Check(k) == Good {
			there++
			b := make([]byte, i.Decoded.Extents[k].Size)
			if _, err := m.Data().ReadAt(b, i.Decoded.Start(k)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b, plain(i, k)) {
				t.Errorf("extent %d is Good and has wrong bytes", k)
			}
		}
		m.Drop(k)
	}
	return there
}

func TestFillAndReadBack(t *testing.T) {
	i := chunktest.New(t, chunktest.Options{Holes: true, Repeats: true})
	c := open(t, t.TempDir(), 0)
	defer shut(t, c)
	m := add(t, c, i)
	defer m.Release()
	if m.Complete() || m.Cached() != 0 {
		t.Fatal("an empty image is complete")
	}
	fill(t, m, i, Wanted)
	if n := right(t, m, i); n != len(i.Decoded.Extents) || !m.Complete() || m.Cached() != m.Size() {
		t.Fatalf("%d of %d extents, complete %v, %d of %d bytes", n, len(i.Decoded.Extents), m.Complete(), m.Cached(), m.Size())
	}
	got, err := os.ReadFile(m.DataPath())
	if err != nil || !bytes.Equal(got, i.Device) {
		t.Fatalf("the data file is not the device: %v", err)
	}
	if got, err := os.ReadFile(m.MetadataPath()); err != nil || !bytes.Equal(got, i.PlainMetadata) {
		t.Fatalf("the metadata file is not the metadata: %v", err)
	}
}

func TestNothingIsTrustedAfterAStart(t *testing.T) {
	i := chunktest.New(t, chunktest.Options{Holes: true})
	dir := t.TempDir()
	c := open(t, dir, 0)
	m := add(t, c, i)
	fill(t, m, i, Wanted)
	m.Release()
	shut(t, c)

	c = open(t, dir, 0)
	defer shut(t, c)
	m, err := c.Lookup(t.Context(), i.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	for k := range i.Decoded.Extents {
		if s := m.State(k); s != Suspect {
			t.Fatalf("extent %d is %d", k, s)
		}
	}
	if err := m.VerifyAll(t.Context()); err != nil || !m.Complete() {
		t.Fatal(err)
	}
}

func TestPermissions(t *testing.T) {
	i := chunktest.New(t, chunktest.Options{})
	dir := filepath.Join(t.TempDir(), "cache")
	c := open(t, dir, 0)
	defer shut(t, c)
	m := add(t, c, i)
	defer m.Release()
	if err := m.SetPin(true); err != nil {
		t.Fatal(err)
	}
	err := filepath.Walk(filepath.Join(dir, "v1"), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOneServerACache(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir, 0)
	if _, err := Open(Config{Dir: dir, Log: quiet()}); !fault.Is(err, fault.Busy) {
		t.Fatalf("a second server: %v", err)
	}
	shut(t, c)
	shut(t, open(t, dir, 0))
}

func TestOtherLayoutsAreLeftAlone(t *testing.T) {
	for _, says := range []string{`{"layout":2}`, `{"layout":9,"more":[]}`} {
		dir := t.TempDir()
		shut(t, open(t, dir, 0))
		mark := filepath.Join(dir, "v1", layoutFile)
		if err := os.WriteFile(mark, []byte(says), 0o600); err != nil {
			t.Fatal(err)
		}
		other := filepath.Join(dir, "v1", "images", "what-is-this")
		if err := os.WriteFile(other, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir, Log: quiet()}); !fault.Is(err, fault.Unsupported) || fault.HintOf(err) == "" {
			t.Errorf("%q: %v, hint %q", says, err, fault.HintOf(err))
		}
		if _, err := os.Stat(other); err != nil {
			t.Errorf("%q: %v", says, err)
		}
	}
}

// TestADamagedLayoutIsPutRight has the file that says what the cache is be damaged: the images are there still, and the user is told once.
func TestADamagedLayoutIsPutRight(t *testing.T) {
	for _, says := range []string{"", "\x00\x00", "[]", "{}", `{"layout":0}`, `{"layout":-1}`, `{"layout":"1"}`, `{"mayout":1}`, `{"layout":1`} {
		dir, i := kept(t)
		mark := filepath.Join(dir, "v1", layoutFile)
		if err := os.WriteFile(mark, []byte(says), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, warnings := range []int{1, 0} {
			log, told := test.NewNullLogger()
			c, err := Open(Config{Dir: dir, Log: log})
			if err != nil {
				t.Fatalf("%q: %v", says, err)
			}
			m, err := c.Lookup(t.Context(), i.Digest)
			if err != nil {
				t.Fatalf("%q: %v", says, err)
			}
			if err := m.VerifyAll(t.Context()); err != nil {
				t.Errorf("%q: %v", says, err)
			}
			m.Release()
			shut(t, c)
			if n := len(told.AllEntries()); n != warnings {
				t.Errorf("%q: %d warnings", says, n)
			}
		}
	}
}

func TestAddRefusesWhatIsNotTheImage(t *testing.T) {
	i, other := chunktest.New(t, chunktest.Options{}), chunktest.New(t, chunktest.Options{Seed: 1})
	c := open(t, t.TempDir(), 0)
	defer shut(t, c)
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
		return b
	}
	for name, f := range map[string]func() ([]byte, []byte, []byte){
		"manifest":       func() ([]byte, []byte, []byte) { return flip(i.Manifest), i.Index, i.Metadata },
		"index":          func() ([]byte, []byte, []byte) { return i.Manifest, flip(i.Index), i.Metadata },
		"metadata":       func() ([]byte, []byte, []byte) { return i.Manifest, i.Index, flip(i.Metadata) },
		"other manifest": func() ([]byte, []byte, []byte) { return other.Manifest, i.Index, i.Metadata },
		"other index":    func() ([]byte, []byte, []byte) { return i.Manifest, other.Index, i.Metadata },
		"other metadata": func() ([]byte, []byte, []byte) { return i.Manifest, i.Index, other.Metadata },
		"short":          func() ([]byte, []byte, []byte) { return i.Manifest, i.Index[:10], i.Metadata },
		"nothing":        func() ([]byte, []byte, []byte) { return nil, nil, nil },
	} {
		a, b, d := f()
		if m, err := c.Add(t.Context(), i.Digest, a, b, d); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	if n := len(c.Images()); n != 0 {
		t.Errorf("%d images are in the cache", n)
	}
}

func TestRemove(t *testing.T) {
	i := chunktest.New(t, chunktest.Options{})
	dir := t.TempDir()
	c := open(t, dir, 0)
	defer shut(t, c)
	if err := c.Remove(t.Context(), i.Digest); !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	m := add(t, c, i)
	fill(t, m, i, Wanted)
	if err := c.Remove(t.Context(), i.Digest); !fault.Is(err, fault.Busy) {
		t.Fatal(err)
	}
	m.Release()
	if err := c.Remove(t.Context(), i.Digest); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Images != 0 || s.Bytes != 0 || len(c.Images()) != 0 {
		t.Errorf("%+v", s)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "v1", "*", "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	add(t, c, i).Release() // and it can come back
}

func TestSharing(t *testing.T) {
	a := chunktest.New(t, chunktest.Options{Seed: 1, Repeats: true})
	b := chunktest.New(t, chunktest.Options{Seed: 2, Like: a})
	dir := t.TempDir()
	c := open(t, dir, 0)
	m := add(t, c, a)
	fill(t, m, a, Wanted)
	m.Release()
	shut(t, c)

	c = open(t, dir, 0)
	m = add(t, c, b)
	c.peers.Wait()
	shared := 0
	for k, x := range b.Decoded.Extents {
		if got := m.Elsewhere(k, nil); got != nil {
			shared++
			if !bytes.Equal(got, plain(b, k)) {
				t.Errorf("extent %d: wrong bytes", k)
			}
		} else if x.Chunk%2 == 1 && x.Chunk != format.Zero {
			t.Errorf("extent %d is in the other image and was not found", k)
		}
	}
	if shared != 32 {
		t.Errorf("%d extents are shared", shared)
	}
	m.Release()
	shut(t, c)
}

func TestADamagedChunkIsNotShared(t *testing.T) {
	a := chunktest.New(t, chunktest.Options{Seed: 1})
	b := chunktest.New(t, chunktest.Options{Seed: 2, Like: a})
	c := open(t, t.TempDir(), 0)
	defer shut(t, c)
	ma, mb := add(t, c, a), add(t, c, b)
	defer ma.Release()
	defer mb.Release()
	fill(t, ma, a, Wanted)
	damage(t, ma.DataPath(), a.Decoded.Start(1))
	if got := mb.Elsewhere(1, nil); got != nil {
		t.Error("a damaged chunk was shared")
	}
	if ma.State(1) != Missing || c.Stats().Damaged != 1 {
		t.Errorf("state %d, %+v", ma.State(1), c.Stats())
	}
}

// damage flips a bit of a file.
func damage(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func isFull(err error) bool { return errors.Is(err, ErrFull) }
