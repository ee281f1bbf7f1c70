package corrupt

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// samples says how many bytes apart the damages of a file of the cache are, a bit each; 0: every bit.
func samples() map[string]int {
	return map[string]int{"cache.json": 0, "present": 0, "metadata.sum": 0, "manifest": 1, "index": 1, "metadata": 8, "data": 24}
}

// TestDamagedCache damages the files of a node's cache between two starts of its server, each in turn; of the data a bit in every chunk
// at once. The damage is found, what is missing comes from the origin again, and every byte is right.
func TestDamagedCache(t *testing.T) {
	good := small(t)
	for name, step := range samples() {
		t.Run(name, func(t *testing.T) {
			var rounds, flips, found, wrong atomic.Int64
			path := good.warm(t, memory(t)).path(name)
			count := len(read(t, path))
			if name == "data" {
				count = int(good.widest())
			}
			if step == 0 {
				count, step = count*8, 1
			} else {
				count /= step
			}
			eachBit(count, func(next func() (int, bool)) {
				k := good.warm(t, memory(t))
				for n, ok := next(); ok; n, ok = next() {
					rounds.Add(1)
					bit := n
					if samples()[name] > 0 {
						bit = n*step*8 + rand.IntN(8*step)
					}
					damages := k.damage(t, name, bit)
					flips.Add(int64(damages))
					noticed, err := k.again(t)
					found.Add(int64(min(noticed, damages)))
					if err != nil {
						wrong.Add(1)
						t.Errorf("bit %d of %s: %v", bit, name, err)
					}
				}
			})
			t.Logf("figure: cache, %s: %d flips in %d starts, %d found, %d harmless, wrong=%d",
				name, flips.Load(), rounds.Load(), found.Load(), flips.Load()-found.Load(), wrong.Load())
			if hint := name == "present" || name == "cache.json"; !hint && flips.Load() != found.Load() {
				t.Errorf("%d damages of %s were not found", flips.Load()-found.Load(), name)
			}
		})
	}
}

// widest is the size of the largest extent that has a chunk.
func (i *image) widest() (most int64) {
	for _, e := range i.index.Extents {
		if e.Chunk != format.Zero {
			most = max(most, e.Size)
		}
	}
	return most
}

// kept is a cache, at rest, with all of an image in it.
type kept struct {
	image *image
	dir   string
}

func (i *image) warm(t testing.TB, dir string) *kept {
	t.Helper()
	k := &kept{i, dir}
	if n, err := k.again(t); err != nil || n == 0 {
		t.Fatalf("%d chunks came, %v", n, err)
	}
	if n, err := k.again(t); err != nil || n > 0 {
		t.Fatalf("%d chunks came again, %v", n, err)
	}
	return k
}

func (k *kept) path(name string) string {
	if name == "cache.json" {
		return filepath.Join(k.dir, "v1", name)
	}
	return filepath.Join(k.dir, "v1/images", k.image.digest.Algorithm.String()+"-"+k.image.digest.Sum.String(), name)
}

// damage flips a bit of a file, or a bit of every chunk of the data. It gives how many it flipped.
func (k *kept) damage(t testing.TB, name string, bit int) (n int) {
	t.Helper()
	f := openFile(t, k.path(name))
	defer f.Close()
	if name != "data" {
		f.flip(t, min(bit, f.bits()-1))
		return 1
	}
	x := k.image.index
	for i, e := range x.Extents {
		if e.Chunk != format.Zero && int64(bit/8) < e.Size {
			f.flip(t, int(x.Start(i))*8+bit)
			n++
		}
	}
	return n
}

// again starts on the cache as a server does, reads everything, and stops. It gives how many damages were noticed: chunks that were
// fetched again, or 1 for all that says what the image is.
func (k *kept) again(t testing.TB) (noticed int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	from := unasked(t, k.image.dir)
	defer from.Close()
	c, err := tryCache(k.dir)
	if err != nil { // only what names another layout is left alone
		noticed++
		var says struct{ Layout int }
		if json.Unmarshal(read(t, k.path("cache.json")), &says) != nil || says.Layout < 2 {
			return noticed, err
		}
		must(t, os.WriteFile(k.path("cache.json"), []byte("{\"layout\":1}\n"), 0o600))
		c = cacheIn(t, k.dir)
	}
	defer func() { must(t, c.Close()) }()
	img, err := c.Lookup(ctx, k.image.digest)
	if err != nil {
		noticed++
	} else {
		img.Release()
	}
	r, err := open(ctx, c, from, k.image.digest)
	if err != nil {
		return noticed, hung(err)
	}
	defer r.close()
	got, err := r.everything(ctx)
	if diff := k.image.want.diff(got); err == nil && diff != "" {
		err = fmt.Errorf("WRONG: %s", diff)
	}
	return noticed + int(max(c.Stats().Damaged, r.dev.Stats().Requests)), hung(err)
}
