package lazy

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

func TestSequentialReadersAreServedAhead(t *testing.T) {
	r := newRig(t, setup{image: chunktest.Options{Chunks: 800, PackSize: 4 << 20}, config: Config{Verify: true, ReadAhead: 1 << 20}})
	half := r.Size() / 2
	for off := int64(0); off < half; off += 32768 { // two streams
		r.check(t, off, 32768)
		r.check(t, half+off, 32768)
	}
	s := r.Stats()
	if n := s.Hits + s.Misses; s.Requests > n/4 {
		t.Errorf("%d requests for %d reads in sequence", s.Requests, n)
	}
	if s.Amplification() > 1.01 {
		t.Errorf("amplification %v", s.Amplification())
	}
}

// TestRandomReadersAreNot has what is fetched along with misses be of no use, which is found out.
func TestRandomReadersAreNot(t *testing.T) {
	r := newRig(t, setup{image: chunktest.Options{Chunks: 2000, Largest: 32 << 10}, config: Config{Verify: true}})
	rnd := rand.New(rand.NewPCG(5, 5))
	for range 300 {
		r.check(t, rnd.Int64N(r.Size()), 4096)
	}
	if s := r.Stats(); s.Amplification() > 2 {
		t.Errorf("amplification %v of random reads", s.Amplification())
	}
}

// TestNeighboursComeAlong reads a little of each part of the image, part after part, as a program's start does: one request brings a part.
// What has been asked for comes before the next read, so that only those wait that nothing brought along. On a slow machine more comes
// along, and fewer wait.
func TestNeighboursComeAlong(t *testing.T) {
	r := newRig(t, setup{image: chunktest.Options{Chunks: 1024, Largest: 16 << 10, PackSize: 4 << 20}, config: Config{Verify: true}})
	reads, parts := 0, 0
	for i := 0; i+3 < len(r.index.Extents); i += 16 {
		for _, k := range []int{i, i + 1, i + 3} {
			r.check(t, r.index.Start(k), 1)
			r.eventually(t, "all has come", func() bool { return len(r.flights) == 0 })
			reads++
		}
		parts++
	}
	s := r.Stats()
	if s.Misses > int64(parts) || s.Requests > int64(parts)*3/2 {
		t.Errorf("%d of %d reads of %d parts waited, %d requests", s.Misses, reads, parts, s.Requests)
	}
	if n := r.origin.Pieces.Load(); n > int64(len(r.index.Chunks)) {
		t.Errorf("%d chunks were fetched of %d", n, len(r.index.Chunks))
	}
}

func TestReplay(t *testing.T) {
	r := newRig(t, setup{image: chunktest.Options{Chunks: 400, Holes: true}, config: Config{Verify: true}})
	tr := &format.Trace{Chunks: []format.Sum{{1, 2, 3}}} // one that the image does not have
	for c := 0; c < len(r.index.Chunks); c += 2 {
		tr.Chunks = append(tr.Chunks, r.index.Chunks[c].Sum, r.index.Chunks[c].Sum)
	}
	r.Replay(tr)
	r.eventuallyDone(t)
	for c := 0; c < len(r.index.Chunks); c += 2 {
		for i := range r.image.Extents(uint32(c)) {
			if r.image.State(i) != cache.Good {
				t.Fatalf("chunk %d is not there", c)
			}
		}
	}
	if n := r.origin.Fetches.Load(); n > 20 {
		t.Errorf("%d requests for %d chunks of %d packs", n, 200, len(r.index.Packs))
	}
	for _, run := range r.origin.Runs() {
		if !slices.IsSortedFunc(run, func(a, b origin.Piece) int { return int(a.Offset - b.Offset) }) {
			t.Errorf("pieces are not in order: %v", run)
		}
	}
}

func (r *rig) eventuallyDone(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); r.Stats().Prefetch.State != "done"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never done: %+v", r.Stats())
		}
	}
}

func TestComplete(t *testing.T) {
	for _, verify := range []bool{true, false} {
		r := newRig(t, setup{image: chunktest.Options{Chunks: 1000, Holes: true, Repeats: true}, config: Config{Verify: verify}})
		r.check(t, r.Size()/2, 100000)
		r.Complete()
		if verify {
			r.eventuallyDone(t)
			if !r.IsComplete() {
				t.Error("it is done and not complete")
			}
		}
		r.checkAll(t)
		if s := r.Stats(); verify && (s.Prefetch.Done != s.Prefetch.Total || s.Prefetch.Total != r.image.Manifest().Stored) {
			t.Errorf("%+v", s.Prefetch)
		}
		r.end(t)
	}
}

// TestReadersComeFirst has a reader want what is at the end of a queue.
func TestReadersComeFirst(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t, setup{image: chunktest.Options{Chunks: 900}, config: Config{Verify: true, ReadAhead: -1}, origin: func(o *chunktest.Origin) {
		o.Before = func(ctx context.Context, f origin.Fetch) error {
			if f.Class == origin.Demand {
				return nil
			}
			select {
			case <-f.Raise:
			case <-release:
			case <-ctx.Done():
			}
			return nil
		}
	}})
	r.Complete()
	r.eventually(t, "the background has begun", func() bool { return r.begun[origin.Background] == parallelBackground })
	r.check(t, r.Size()-5000, 4096) // queued, or not yet
	r.check(t, 0, 4096)             // on its way, and held up
	close(release)
	r.eventuallyDone(t)
}

// TestARestart takes up what a device left in the cache, some of it damaged.
func TestARestart(t *testing.T) {
	s := setup{image: chunktest.Options{Chunks: 200, Holes: true}, dir: t.TempDir(), config: Config{Verify: true}}
	r := newRig(t, s)
	r.checkAll(t)
	data := r.image.Data()
	for _, at := range []int64{0, r.Size() / 3, r.Size() / 2} {
		var b [1]byte
		if _, err := data.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := data.WriteAt(b[:], at); err != nil {
			t.Fatal(err)
		}
	}
	r.end(t)

	r = newRig(t, s)
	r.checkAll(t)
	if n := r.origin.Pieces.Load(); n < 1 || n > 3 {
		t.Errorf("%d chunks were fetched again, of 3 damaged", n)
	}
	if !r.IsComplete() {
		t.Error("it is not complete again")
	}
}

func TestSharingBetweenImages(t *testing.T) {
	a := newRig(t, setup{image: chunktest.Options{Seed: 1}, config: Config{Verify: true}})
	a.checkAll(t)
	b := chunktest.New(t, chunktest.Options{Seed: 2, Like: a.want})
	image, err := a.cache.Add(t.Context(), b.Digest, b.Manifest, b.Index, b.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Release()
	o := chunktest.NewOrigin(b)
	d, err := Open(Config{Image: image, Origins: o, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	(&rig{Device: d, want: b}).checkAll(t)
	if n := o.Pieces.Load(); n != 32 || d.Stats().Shared == 0 {
		t.Errorf("%d of 64 chunks were fetched, half of them are shared: %+v", n, d.Stats())
	}
}

func TestTrace(t *testing.T) {
	r := newRig(t, setup{image: chunktest.Options{Holes: true}, config: Config{Verify: true}})
	r.checkAll(t)
	r.StartTrace()
	var want []int
	for _, i := range []int{9, 3, 9, 20, 3, 7} {
		r.check(t, r.index.Start(i), 1)
		if r.index.Extents[i].Chunk != format.Zero && !slices.Contains(want, i) {
			want = append(want, i)
		}
	}
	if got := r.StopTrace(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	r.check(t, 0, 1)
	if got := r.StopTrace(); len(got) != 0 {
		t.Errorf("recorded though nobody asked: %v", got)
	}
}
