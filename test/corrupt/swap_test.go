package corrupt

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// swaps builds two versions of an image, in which a pack has chunks of one length, in one store.
func swaps(t *testing.T) (older, newer *image) {
	t.Helper()
	o := smallOptions()
	o.Codec, o.Trace, o.Group, o.PackSize = format.None, nil, 1, 40_000
	dir := filepath.Join(t.TempDir(), "store")
	var list []*image
	for version := range byte(2) {
		tree := smallTree(t, version)
		for n := range byte(8) {
			b := words(5000, 10+n)
			b[0] += version // each file is another one in each version, and of the same size
			must(t, os.WriteFile(filepath.Join(tree, fmt.Sprintf("same-%d", n)), b, 0o644))
		}
		list = append(list, builtFrom(t, tree, dir, o))
	}
	return list[0], list[1]
}

// damaged reads every chunk of an image from a damaged store: from it alone, and with a good store beside it. It gives how many could not
// be read from it alone.
func damaged(t *testing.T, c *tally, good *image, what string, damage func(i *image), kinds ...fault.Kind) (lost int) {
	t.Helper()
	i := good.copyOf(t)
	damage(i)
	dirs := []string{i.dir, good.dir}
	device := good.device(t)
	// What describes the image is not damaged, and comes from the good store.
	a, b := i.readerOf(t, good, dirs[:1]), i.readerOf(t, good, dirs)
	for n := range i.index.Chunks {
		err, right := a.chunk(t, uint32(n), device)
		before := c.found.Load()
		c.took(t, fmt.Sprintf("%s, chunk %d", what, n), err, right, i.index.Chunks[n].Sum.String(), kinds...)
		lost += int(c.found.Load() - before)
		if err, right := b.chunk(t, uint32(n), device); err != nil || !right {
			t.Errorf("%s, chunk %d, with a second origin: right is %v, %v", what, n, right, err)
		}
	}
	return lost
}

// readerOf opens the image by way of a good store, for packs that come from others.
func (i *image) readerOf(t *testing.T, good *image, dirs []string) *reader {
	t.Helper()
	return i.reader(t, forgetful{origins(t, good.dir), t, dirs})
}

// TestTruncated cuts every file of the store at lengths of every kind.
func TestTruncated(t *testing.T) {
	good := small(t)
	var c, d tally
	for n, p := range good.index.Packs {
		lengths := []int64{0, 1, p.Size / 2, p.Size - 1, p.Size + 1, p.Size + 5000}
		for _, chunk := range good.index.Chunks {
			if int(chunk.Pack) == n {
				lengths = append(lengths, int64(chunk.Offset), int64(chunk.Offset)+1, int64(chunk.Offset+chunk.Stored)-1)
			}
		}
		slices.Sort(lengths)
		for _, length := range slices.Compact(lengths) {
			if length != p.Size {
				damaged(t, &c, good, fmt.Sprintf("pack %d of %d bytes", n, length), func(i *image) { must(t, os.Truncate(i.pack(n), length)) },
					fault.Corrupt, fault.Backend)
			}
		}
	}
	for name, path := range good.description() {
		i := good.copyOf(t)
		rel, err := filepath.Rel(good.dir, path)
		must(t, err)
		whole, err := os.ReadFile(path)
		must(t, err)
		for length := range len(whole) {
			must(t, os.WriteFile(filepath.Join(i.dir, rel), whole[:length], 0o600))
			err, right := good.fetched(t, name, i.dir)
			if name == "tag" && length == len(whole)-1 {
				continue // without its newline it says the same
			}
			d.took(t, fmt.Sprintf("%s of %d bytes", name, length), err, right && name != "tag", good.names(name), fault.Corrupt, fault.Backend)
		}
	}
	t.Logf("figure: packs cut: %v; tag, manifest, index, metadata cut at every length: %v", &c, &d)
	if d.harmless.Load() > 0 {
		t.Error("what was cut off was not missed")
	}
}

// TestSwapped puts bytes where others should be: of another pack, of another version, of another chunk.
func TestSwapped(t *testing.T) {
	older, newer := swaps(t)
	var c tally
	for name, damage := range map[string]func(i *image){
		"packs swapped": func(i *image) {
			a, b := read(t, i.pack(0)), read(t, i.pack(1))
			write(t, i.pack(0), b)
			write(t, i.pack(1), a)
		},
		"packs swapped, sizes kept": func(i *image) {
			a, b := read(t, i.pack(0)), read(t, i.pack(1))
			write(t, i.pack(0), sized(b, len(a)))
			write(t, i.pack(1), sized(a, len(b)))
		},
		"packs replayed": func(i *image) {
			for n := range i.index.Packs {
				old := read(t, older.pack(min(n, len(older.index.Packs)-1)))
				write(t, i.pack(n), sized(old, int(i.index.Packs[n].Size)))
			}
		},
		"chunks swapped": func(i *image) { i.swapChunks(t) },
		"chunk dropped, the rest moves up": func(i *image) {
			c, b := i.index.Chunks[0], read(t, i.pack(0))
			write(t, i.pack(0), sized(slices.Delete(b, int(c.Offset), int(c.Offset+c.Stored)), int(i.index.Packs[0].Size)))
		},
		"chunk of zeros": func(i *image) {
			c, b := i.index.Chunks[0], read(t, i.pack(0))
			clear(b[c.Offset : c.Offset+c.Stored])
			write(t, i.pack(0), b)
		},
		"pack missing":                 func(i *image) { must(t, os.Remove(i.pack(0))) },
		"pack a directory":             func(i *image) { must(t, os.Remove(i.pack(0))); must(t, os.Mkdir(i.pack(0), 0o700)) },
		"pack a link out of the store": func(i *image) { must(t, os.Remove(i.pack(0))); must(t, os.Symlink(i.pack(1), i.pack(0))) },
	} {
		kinds := []fault.Kind{fault.Corrupt}
		switch name {
		case "packs swapped", "pack a directory":
			kinds = append(kinds, fault.Backend)
		case "pack missing", "pack a link out of the store":
			kinds = []fault.Kind{fault.NotFound}
		}
		if damaged(t, &c, newer, name, damage, kinds...) == 0 {
			t.Errorf("%s: it was not noticed", name)
		}
	}
	t.Logf("figure: packs and chunks swapped, replayed, dropped: %v", &c)
}

// swapChunks swaps two chunks of the same length in one pack.
func (i *image) swapChunks(t *testing.T) {
	t.Helper()
	for n, a := range i.index.Chunks {
		for _, b := range i.index.Chunks[n+1:] {
			if a.Pack == b.Pack && a.Stored == b.Stored {
				p := read(t, i.pack(int(a.Pack)))
				first := bytes.Clone(p[a.Offset : a.Offset+a.Stored])
				copy(p[a.Offset:], p[b.Offset:b.Offset+b.Stored])
				copy(p[b.Offset:], first)
				write(t, i.pack(int(a.Pack)), p)
				return
			}
		}
	}
	t.Fatal("no two chunks of a pack have the same length")
}

// TestDescriptionReplayed puts what described an older version where that of the newer one should be.
func TestDescriptionReplayed(t *testing.T) {
	older, newer := swaps(t)
	for _, name := range []string{"manifest", "index", "metadata"} {
		i := newer.copyOf(t)
		write(t, i.part(name), read(t, older.part(name)))
		c := cacheIn(t, t.TempDir())
		err, _ := i.describe(t, c, origins(t, i.dir))
		if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Backend) {
			t.Errorf("%s of an older image: %v", name, err)
		}
		must(t, c.Close())
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	must(t, os.WriteFile(path, b, 0o600))
}

// sized is b, cut or with zeros behind it.
func sized(b []byte, size int) []byte {
	return append(bytes.Clone(b), make([]byte, max(size-len(b), 0))...)[:size]
}
