package corrupt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// tally is what became of the flips.
type tally struct {
	flips, found, harmless, wrong atomic.Int64

	said sync.Map // what was wrong, to say it once each
}

func (c *tally) String() string {
	return fmt.Sprintf("%d flips: %d found, %d harmless, wrong=%d", c.flips.Load(), c.found.Load(), c.harmless.Load(), c.wrong.Load())
}

// took notes one flip: an error of one of the kinds that names what is damaged, or, without an error, right bytes.
func (c *tally) took(t testing.TB, what string, err error, right bool, names string, kinds ...fault.Kind) {
	c.flips.Add(1)
	switch {
	case err == nil && right:
		c.harmless.Add(1)
		return
	case err == nil:
		c.wrong.Add(1)
		t.Errorf("%s: WRONG BYTES", what)
		return
	}
	c.found.Add(1)
	for _, k := range kinds {
		if fault.Is(err, k) && strings.Contains(err.Error(), names) {
			return
		}
	}
	if _, known := c.said.LoadOrStore(err.Error(), true); !known {
		t.Errorf("%s: the error is of kind %v, want %v naming %q: %v", what, fault.KindOf(err), kinds, names, err)
	}
}

// helped notes one flip where another origin has the right bytes: nobody sees anything of it.
func (c *tally) helped(t testing.TB, what string, err error, right bool) {
	if c.flips.Add(1); err != nil || !right {
		c.wrong.Add(1)
		t.Errorf("%s, with a second origin: right is %v, %v", what, right, err)
	}
}

// file is an open file whose bits can be flipped.
type file struct {
	*os.File
	b []byte
}

func openFile(t testing.TB, path string) *file {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return &file{f, b}
}

func (f *file) bits() int { return len(f.b) * 8 }

// flip changes one bit on the disk; set puts it right again.
func (f *file) flip(t testing.TB, bit int) { f.write(t, bit/8, f.b[bit/8]^1<<(bit%8)) }
func (f *file) heal(t testing.TB, bit int) { f.write(t, bit/8, f.b[bit/8]) }

func (f *file) write(t testing.TB, at int, b byte) {
	t.Helper()
	_, err := f.WriteAt([]byte{b}, int64(at))
	must(t, err)
}

// workers is how many flips are under way: most of the time of one is the pause before an origin is asked again.
const workers = 16

// eachBit has every bit looked at by one of the workers, each of which damages a copy of its own.
func eachBit(bits int, work func(next func() (bit int, ok bool))) {
	var at atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			work(func() (int, bool) { n := int(at.Add(1)) - 1; return n, n < bits })
		})
	}
	all.Wait()
}

// TestEveryBitOfTheDescription flips every bit of tag, manifest, index and metadata.
func TestEveryBitOfTheDescription(t *testing.T) {
	good := small(t)
	for name, path := range good.description() {
		t.Run(name, func(t *testing.T) {
			var alone, helped tally
			eachBit(openFile(t, path).bits(), func(next func() (int, bool)) {
				i := good.copyOf(t)
				f := openFile(t, strings.Replace(path, good.dir, i.dir, 1))
				from := origins(t, i.dir)
				c := cacheIn(t, memory(t))
				defer c.Close()
				for bit, ok := next(); ok; bit, ok = next() {
					f.flip(t, bit)
					what := fmt.Sprintf("%s, bit %d", name, bit)
					err, right := i.describe(t, c, from)
					alone.took(t, what, err, right, i.names(name), fault.Corrupt, fault.NotFound, fault.Backend)
					err, right = good.fetched(t, name, i.dir, good.dir)
					helped.helped(t, what, err, right)
					f.heal(t, bit)
				}
			})
			t.Logf("figure: %s: %v; with a good second origin: %d flips, wrong=%d", name, &alone, helped.flips.Load(), helped.wrong.Load())
			if alone.harmless.Load() > 0 {
				t.Errorf("%d flips were not noticed", alone.harmless.Load())
			}
		})
	}
}

// description is the files that say what an image is.
func (i *image) description() map[string]string {
	return map[string]string{
		"tag": i.dir + "/" + format.TagDir + "/" + tagName, "manifest": i.blob(i.digest),
		"index": i.blob(i.manifest.Index.Digest), "metadata": i.blob(i.manifest.Metadata.Digest),
	}
}

// names is what an error about a file of the description must name.
func (i *image) names(file string) string {
	switch file {
	case "manifest":
		return i.digest.String()
	case "index":
		return i.manifest.Index.Digest.String()
	case "metadata":
		return i.manifest.Metadata.Digest.String()
	}
	return "" // what the tag has become, or the tag
}

// describe opens the image by its tag. Right bytes are those of the image that was published.
func (i *image) describe(t testing.TB, c *cache.Cache, from origin.Fetcher) (err error, right bool) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	d, err := resolve(ctx, from, tagName, format.Digest{})
	if err != nil {
		return err, false
	}
	img, err := bring(ctx, c, from, d)
	if err != nil {
		return hung(err), false
	}
	img.Release()
	return nil, d == i.digest
}

// fetched gets a file of the description from origins that have not been asked before. A tag is what the first of them says it is.
func (i *image) fetched(t testing.TB, name string, dirs ...string) (err error, right bool) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	from := unasked(t, dirs...)
	defer from.Close()
	d, ok := map[string]format.Digest{"manifest": i.digest, "index": i.manifest.Index.Digest, "metadata": i.manifest.Metadata.Digest}[name]
	if !ok {
		_, err := from.Tag(ctx, tagName)
		return hung(err), true
	}
	b, err := from.Blob(ctx, d, 1<<20)
	if err != nil {
		return hung(err), false
	}
	want, err := os.ReadFile(i.blob(d))
	return err, bytes.Equal(b, want)
}

// hung makes an error of its own of one that came from the deadline.
func hung(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("HUNG: %s", err.Error())
	}
	return err
}

// TestEveryBitOfThePacks flips every bit of every pack and reads the chunk that it is in.
func TestEveryBitOfThePacks(t *testing.T) {
	good := small(t)
	device := good.device(t)
	for n := range good.index.Packs {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			var alone, helped tally
			var refused atomic.Int64
			eachBit(openFile(t, good.pack(n)).bits(), func(next func() (int, bool)) {
				i := good.copyOf(t)
				f := openFile(t, i.pack(n))
				dirs := []string{i.dir, good.dir}
				a, b := i.reader(t, origins(t, i.dir)), i.reader(t, forgetful{origins(t, dirs...), t, dirs})
				for bit, ok := next(); ok; bit, ok = next() {
					f.flip(t, bit)
					what := fmt.Sprintf("pack %d, bit %d", n, bit)
					chunk := i.chunkAt(n, bit/8)
					name := i.index.Chunks[chunk].Sum.String()
					err, right := a.chunk(t, chunk, device)
					alone.took(t, what, err, right, name, fault.Corrupt)
					if bit%4 == bit/8%4 { // two of each byte
						err, right = b.chunk(t, chunk, device)
						helped.helped(t, what, err, right)
					}
					f.heal(t, bit)
				}
				refused.Add(b.dev.Stats().Corrupt)
			})
			t.Logf("figure: pack %d: %v; with a good second origin: %d flips, %d refused, wrong=%d",
				n, &alone, helped.flips.Load(), refused.Load(), helped.wrong.Load())
		})
	}
}

// device is the plain bytes of the data device.
func (i *image) device(t testing.TB) []byte {
	t.Helper()
	b := make([]byte, i.index.DeviceSize)
	must(t, i.reader(t, origins(t, i.dir)).readAt(t.Context(), b, 0))
	return b
}

// reader opens the image with an empty cache, until the test ends.
func (i *image) reader(t testing.TB, from origin.Fetcher) *reader {
	t.Helper()
	c := cacheIn(t, memory(t))
	r, err := open(t.Context(), c, from, i.digest)
	must(t, err)
	t.Cleanup(func() {
		r.close()
		must(t, c.Close())
	})
	return r
}

// chunkAt is the chunk that a byte of a pack belongs to.
func (i *image) chunkAt(pack, at int) uint32 {
	for n, c := range i.index.Chunks {
		if int(c.Pack) == pack && at >= int(c.Offset) && at < int(c.Offset+c.Stored) {
			return uint32(n)
		}
	}
	panic(fmt.Sprintf("byte %d of pack %d is in no chunk", at, pack))
}

// chunk reads a chunk wherever it is on the device, anew each time.
func (r *reader) chunk(t testing.TB, chunk uint32, device []byte) (err error, right bool) {
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for n := range r.img.Extents(chunk) {
		r.img.MarkBad(n)
	}
	x := r.img.Index()
	for n := range r.img.Extents(chunk) {
		b := make([]byte, x.Extents[n].Size)
		if err := r.readAt(ctx, b, x.Start(n)); err != nil {
			return hung(err), false
		}
		if !bytes.Equal(b, device[x.Start(n):x.Start(n+1)]) {
			return nil, false
		}
	}
	return nil, true
}
