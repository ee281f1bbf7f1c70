package corrupt

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// TestCheckFindsEveryFlip flips a bit of each byte of each file of the store. What hides others, such as a manifest, is damaged alone;
// the rest together, and each damage must be found.
func TestCheckFindsEveryFlip(t *testing.T) {
	good := small(t)
	trace, err := format.TracePath(good.digest, role)
	must(t, err)
	rel := func(path string) string { return strings.TrimPrefix(path, good.dir+"/") }
	together := []string{rel(good.blob(good.manifest.Metadata.Digest)), rel(good.pack(0)), rel(good.pack(1)), format.StoreFile}
	groups := [][]string{together, {trace}}
	for _, name := range []string{"tag", "manifest", "index"} {
		groups = append(groups, []string{rel(good.description()[name])})
	}
	var c tally
	for _, group := range groups {
		checkEach(t, good, group, &c)
	}
	t.Logf("figure: checking the store: %v", &c)
	if c.flips.Load() != c.found.Load() {
		t.Error("not every damage was found")
	}
}

// checkEach damages the files of a group at the same time, byte after byte; a shorter file begins again.
func checkEach(t *testing.T, good *image, group []string, c *tally) {
	longest := 0
	for _, path := range group {
		longest = max(longest, openFile(t, filepath.Join(good.dir, path)).bits()/8)
	}
	eachBit(longest, func(next func() (int, bool)) {
		i := good.copyOf(t)
		var files []*file
		for _, path := range group {
			files = append(files, openFile(t, filepath.Join(i.dir, path)))
		}
		for at, ok := next(); ok; at, ok = next() {
			bits := make([]int, len(files))
			for n, f := range files {
				bits[n] = at%len(f.b)*8 + rand.IntN(8)
				f.flip(t, bits[n])
			}
			found := i.check(t)
			for n, path := range group {
				var err error
				if slices.Contains(found, path) {
					err = fault.New(fault.Corrupt, "found")
				}
				c.took(t, fmt.Sprintf("%s, bit %d", path, bits[n]), err, true, "", fault.Corrupt)
				if err == nil {
					t.Errorf("%s, bit %d was not found; found were %v", path, bits[n], found)
				}
				files[n].heal(t, bits[n])
			}
		}
	})
}

// check gives the paths that are found damaged.
func (i *image) check(t testing.TB) (found []string) {
	t.Helper()
	st, err := store.OpenDamaged(i.dir)
	if fault.Is(err, fault.Unsupported) && strings.Contains(err.Error(), "layout") {
		// It says that it is of another layout: nothing else of it is looked at.
		f := openFile(t, filepath.Join(i.dir, format.StoreFile))
		right := fmt.Sprintf("{\"layout\":%d}\n", format.Layout)
		_, err := f.WriteAt([]byte(right), 0)
		must(t, err)
		return append(i.check(t), format.StoreFile)
	}
	must(t, err)
	r, err := st.Check(t.Context(), store.CheckOptions{Parallel: 1})
	must(t, err)
	for _, d := range r.Damages {
		found = append(found, d.Path)
	}
	return found
}
