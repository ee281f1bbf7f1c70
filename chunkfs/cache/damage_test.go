package cache

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// kept makes a cache with an image in it whole, closed.
func kept(t *testing.T) (dir string, i *chunktest.Image) {
	t.Helper()
	i = chunktest.New(t, chunktest.Options{Chunks: 24, Holes: true, Repeats: true})
	dir = t.TempDir()
	c := open(t, dir, 0)
	m := add(t, c, i)
	fill(t, m, i, Wanted)
	m.Release()
	shut(t, c)
	return dir, i
}

func file(dir string, i *chunktest.Image, name string) string {
	return filepath.Join(dir, "v1", "images", imageName(i.Digest), name)
}

func TestEveryDamageOfTheDataIsFound(t *testing.T) {
	dir, i := kept(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		hurt := map[int]bool{}
		for range 1 + r.IntN(5) {
			at := r.Int64N(int64(len(i.Device)))
			k := i.Decoded.Find(at)
			if hurt[k] {
				continue // flipped twice, it might be right again
			}
			hurt[k] = true
			damage(t, file(dir, i, dataFile), at)
		}
		c := open(t, dir, 0)
		m, err := c.Lookup(t.Context(), i.Digest)
		if err != nil {
			t.Fatal(err)
		}
		missing := 0
		for k := range hurt {
			if i.Decoded.Extents[k].Chunk != format.Zero {
				missing++
			}
		}
		err = m.VerifyAll(t.Context())
		if n := right(t, m, i); n != len(i.Decoded.Extents)-missing || (err == nil) != (missing == 0) {
			t.Fatalf("%d of %d are good, %d were damaged: %v", n, len(i.Decoded.Extents), missing, err)
		}
		fill(t, m, i, Wanted)
		if err := m.VerifyAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(m.DataPath()); err != nil || !bytes.Equal(got, i.Device) {
			t.Fatal("the device is not whole again")
		}
		m.Release()
		shut(t, c)
	}
}

// TestAHintThatLies damages the bitmap: extents are there that it does not have, and not there that it has.
func TestAHintThatLies(t *testing.T) {
	for name, hurt := range map[string]func(path string) error{
		"bits":     func(p string) error { return overwrite(p, 16, []byte{0x5a, 0xff, 0x00}) },
		"all set":  func(p string) error { return overwrite(p, 16, bytes.Repeat([]byte{0xff}, 8)) },
		"magic":    func(p string) error { return overwrite(p, 0, []byte("X")) },
		"count":    func(p string) error { return overwrite(p, 9, []byte{7}) },
		"short":    func(p string) error { return os.Truncate(p, 20) },
		"long":     func(p string) error { return os.Truncate(p, 2000) },
		"empty":    func(p string) error { return os.Truncate(p, 0) },
		"gone":     os.Remove,
		"no data":  func(p string) error { return os.Truncate(filepath.Join(filepath.Dir(p), dataFile), 0) },
		"half":     func(p string) error { return os.Truncate(filepath.Join(filepath.Dir(p), dataFile), 100001) },
		"too long": func(p string) error { return os.Truncate(filepath.Join(filepath.Dir(p), dataFile), 1<<30) },
		"data gone": func(p string) error {
			return os.Remove(filepath.Join(filepath.Dir(p), dataFile))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, i := kept(t)
			if err := hurt(file(dir, i, presentFile)); err != nil {
				t.Fatal(err)
			}
			c := open(t, dir, 0)
			defer shut(t, c)
			m, err := c.Lookup(t.Context(), i.Digest)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Release()
			right(t, m, i)
			fill(t, m, i, Wanted)
			if n := right(t, m, i); n != len(i.Decoded.Extents) || !m.Complete() {
				t.Errorf("%d of %d extents", n, len(i.Decoded.Extents))
			}
			if got, err := os.ReadFile(m.DataPath()); err != nil || !bytes.Equal(got, i.Device) {
				t.Error("the device is not whole again")
			}
		})
	}
}

func overwrite(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt(b, at)
	return err
}

// TestDamageOfTheDescription damages what says what the image is: it is not found, and whole again after Add, with its chunks.
func TestDamageOfTheDescription(t *testing.T) {
	for _, name := range []string{manifestFile, indexFile, metadataFile, sumFile} {
		for how, hurt := range map[string]func(path string) error{
			"bit":   func(p string) error { return flipOne(p) },
			"short": func(p string) error { return os.Truncate(p, 5) },
			"empty": func(p string) error { return os.Truncate(p, 0) },
			"gone":  os.Remove,
		} {
			if name == manifestFile && how == "gone" {
				continue // then there is no image at all
			}
			dir, i := kept(t)
			if err := hurt(file(dir, i, name)); err != nil {
				t.Fatal(err)
			}
			c := open(t, dir, 0)
			if _, err := c.Lookup(t.Context(), i.Digest); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s %s: %v", name, how, err)
			}
			m := add(t, c, i)
			if err := m.VerifyAll(t.Context()); err != nil {
				t.Errorf("%s %s: the chunks are lost: %v", name, how, err)
			}
			m.Release()
			if m, err := c.Lookup(t.Context(), i.Digest); err != nil {
				t.Errorf("%s %s: %v", name, how, err)
			} else {
				m.Release()
			}
			shut(t, c)
		}
	}
}

func flipOne(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 4
	return os.WriteFile(path, b, 0o600)
}

// TestAnAddThatWasKilled leaves a directory without its manifest.
func TestAnAddThatWasKilled(t *testing.T) {
	dir, i := kept(t)
	if err := os.Remove(file(dir, i, manifestFile)); err != nil {
		t.Fatal(err)
	}
	c := open(t, dir, 0)
	defer shut(t, c)
	if n := len(c.Images()); n != 0 {
		t.Errorf("%d images", n)
	}
	m := add(t, c, i)
	defer m.Release()
	if n := fill(t, m, i, Wanted); n == 0 {
		t.Error("chunks of nowhere")
	}
}

// TestTheDirectoryIsRemoved under a cache that is open: what to do is said.
func TestTheDirectoryIsRemoved(t *testing.T) {
	dir, i := t.TempDir(), chunktest.New(t, chunktest.Options{})
	c := open(t, dir, 0)
	defer shut(t, c)
	if err := os.RemoveAll(filepath.Join(dir, layoutDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Add(t.Context(), i.Digest, i.Manifest, i.Index, i.Metadata); !strings.Contains(fault.HintOf(err), "removed under the chunkfs server") {
		t.Errorf("got %v, hint %q", err, fault.HintOf(err))
	}
}
