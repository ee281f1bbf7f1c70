package corrupt

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// large builds an image of several megabytes as most are: with the chunks of the builder's defaults, in several packs.
func large(t testing.TB) *image {
	t.Helper()
	dir := t.TempDir()
	for n := range 60 {
		sub := filepath.Join(dir, fmt.Sprintf("d%d", n%5))
		must(t, os.MkdirAll(sub, 0o755))
		b := words([]int{300, 5000, 50_000, 400_000}[n%4]+n, byte(n))
		_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b[len(b)/3 : 2*len(b)/3])
		must(t, os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%d", n)), b, 0o644))
	}
	o := build.Defaults()
	o.Tag, o.PackSize = tagName, 512<<10
	return builtFrom(t, dir, filepath.Join(t.TempDir(), "store"), o)
}

// flips is how many bits of the large image are flipped.
func flips(t testing.TB) int {
	t.Helper()
	said := os.Getenv(FlipsVar)
	if said == "" {
		return 2000
	}
	n, err := strconv.Atoi(said)
	must(t, err)
	return n
}

// TestRandomFlips flips bits of the blobs of a large image, each blob as often as it is large.
func TestRandomFlips(t *testing.T) {
	good := large(t)
	device := good.device(t)
	names, sizes := good.parts(t)
	total := 0
	for _, size := range sizes {
		total += size
	}
	var c tally
	eachBit(flips(t), func(next func() (int, bool)) {
		i := good.copyOf(t)
		r := i.reader(t, origins(t, i.dir))
		files := map[string]*file{}
		for n, ok := next(); ok; n, ok = next() {
			random := rand.New(rand.NewPCG(uint64(n), 11))
			part, at := 0, random.IntN(total)
			for ; at >= sizes[part]; part++ {
				at -= sizes[part]
			}
			name := names[part]
			if files[name] == nil {
				files[name] = openFile(t, i.part(name))
			}
			bit := at*8 + random.IntN(8)
			files[name].flip(t, bit)
			what := fmt.Sprintf("%s, bit %d", name, bit)
			if pack, err := strconv.Atoi(name); err == nil {
				chunk := i.chunkAt(pack, at)
				err, right := r.chunk(t, chunk, device)
				c.took(t, what, err, right, i.index.Chunks[chunk].Sum.String(), fault.Corrupt)
			} else {
				err, right := i.fetched(t, name, i.dir)
				c.took(t, what, err, right, i.names(name), fault.Corrupt)
			}
			files[name].heal(t, bit)
		}
	})
	t.Logf("figure: %d bytes in %d packs, %d chunks, at random: %v", total, len(good.index.Packs), len(good.index.Chunks), &c)
}

// parts are the blobs of the image, packs by their number, and their sizes in bytes.
func (i *image) parts(t testing.TB) (names []string, sizes []int) {
	t.Helper()
	for n := range i.index.Packs {
		names = append(names, fmt.Sprint(n))
	}
	for _, name := range append(names, "manifest", "index", "metadata") {
		st, err := os.Stat(i.part(name))
		must(t, err)
		sizes = append(sizes, int(st.Size()))
	}
	return append(names, "manifest", "index", "metadata"), sizes
}

func (i *image) part(name string) string {
	if n, err := strconv.Atoi(name); err == nil {
		return i.pack(n)
	}
	return i.description()[name]
}
