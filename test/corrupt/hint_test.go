package corrupt

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// TestEveryBitOfTheHints flips every bit of what no reader relies on, the trace and the file that marks the store: whatever is made of
// it, the image reads right.
func TestEveryBitOfTheHints(t *testing.T) {
	good := small(t)
	trace, err := format.TracePath(good.digest, role)
	must(t, err)
	for name, path := range map[string]string{"trace": trace, "store": format.StoreFile} {
		t.Run(name, func(t *testing.T) {
			var c tally
			eachBit(openFile(t, filepath.Join(good.dir, path)).bits(), func(next func() (int, bool)) {
				i := good.copyOf(t)
				f := openFile(t, filepath.Join(i.dir, path))
				r := i.reader(t, origins(t, i.dir))
				for bit, ok := next(); ok; bit, ok = next() {
					f.flip(t, bit)
					c.helped(t, name, i.start(t, r), true)
					f.heal(t, bit)
				}
			})
			t.Logf("figure: %s: %d flips, all harmless, wrong=%d", name, c.flips.Load(), c.wrong.Load())
		})
	}
}

// start is what a mount does: the trace is replayed, if it is one, while everything is read.
func (i *image) start(t testing.TB, r *reader) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	for n := range r.img.Index().Extents {
		r.img.MarkBad(n)
	}
	b, err := r.from.Trace(ctx, i.digest, role)
	if err != nil {
		return err
	}
	tr, err := format.DecodeTrace(b)
	if err != nil {
		return nil // the server goes on without it
	}
	r.dev.Replay(tr)
	got, err := r.everything(ctx)
	if diff := i.want.diff(got); err == nil && diff != "" {
		t.Errorf("WRONG: %s", diff)
	}
	return hung(err)
}
