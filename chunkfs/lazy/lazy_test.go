package lazy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// rig is a device over an image, a cache and an origin, all small.
type rig struct {
	*Device
	want   *chunktest.Image
	cache  *cache.Cache
	image  *cache.Image
	origin *chunktest.Origin
}

type setup struct {
	image chunktest.Options
	quota int64
	// workingSet is that of the cache.
	workingSet time.Duration
	dir        string
	config     Config
	origin     func(o *chunktest.Origin)
	// fetcher, if any, is asked in place of the origin in memory.
	fetcher origin.Fetcher
}

func newRig(t testing.TB, s setup) *rig {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	if s.dir == "" {
		s.dir = t.TempDir()
	}
	r := &rig{want: chunktest.New(t, s.image)}
	r.origin = chunktest.NewOrigin(r.want)
	if s.origin != nil {
		s.origin(r.origin)
	}
	var err error
	if r.cache, err = cache.Open(cache.Config{Dir: s.dir, Quota: s.quota, WorkingSet: s.workingSet, Log: log}); err != nil {
		t.Fatal(err)
	}
	r.cache.Settle()
	if r.image, err = r.cache.Add(t.Context(), r.want.Digest, r.want.Manifest, r.want.Index, r.want.Metadata); err != nil {
		t.Fatal(err)
	}
	s.config.Image, s.config.Origins, s.config.Log = r.image, r.origin, log
	if s.fetcher != nil {
		s.config.Origins = s.fetcher
	}
	if r.Device, err = Open(s.config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.end(t) })
	return r
}

// end closes all, and is the end of it when called twice.
func (r *rig) end(t testing.TB) {
	if r.cache == nil {
		return
	}
	r.Close()
	if n := len(r.flights) + r.completing; n != 0 {
		t.Errorf("%d flights are left", n)
	}
	if !r.memory.TryAcquire(r.cfg.Memory) {
		t.Error("memory is still lent")
	}
	r.image.Release()
	if err := r.cache.Close(); err != nil {
		t.Error(err)
	}
	r.cache = nil
}

// check reads a range and compares it with the image.
func (r *rig) check(t testing.TB, off int64, n int) {
	t.Helper()
	s, err := r.Read(t.Context(), off, n)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Release()
	r.compare(t, off, n, s)
}

func (r *rig) compare(t testing.TB, off int64, n int, s Span) {
	t.Helper()
	want := r.want.Device[min(off, r.Size()):min(off+int64(n), r.Size())]
	got := make([]byte, s.Size)
	if _, err := s.copyTo(got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes at %d are not those of the image (%v)", n, off, err)
	}
}

func (r *rig) checkAll(t testing.TB) {
	t.Helper()
	got := make([]byte, r.Size())
	if n, err := r.ReadAt(got, 0); err != nil || n != len(got) || !bytes.Equal(got, r.want.Device) {
		t.Errorf("%d of %d bytes, equal %v: %v", n, len(got), bytes.Equal(got, r.want.Device), err)
	}
}

func TestReadsAreTheImage(t *testing.T) {
	for _, codec := range []format.Codec{format.None, format.Zstd, format.LZ4} {
		for _, verify := range []bool{true, false} {
			r := newRig(t, setup{image: chunktest.Options{Holes: true, Repeats: true, Codec: codec}, config: Config{Verify: verify}})
			rnd := rand.New(rand.NewPCG(1, 1))
			for range 200 {
				r.check(t, rnd.Int64N(r.Size()+10000), rnd.IntN(70000))
			}
			r.checkAll(t)
			if n, err := r.ReadAt(make([]byte, 10), r.Size()-4); n != 4 || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}
			if !verify {
				continue
			}
			s := r.Stats()
			if !r.IsComplete() || s.Errors != 0 || s.Corrupt != 0 || s.Hits == 0 || s.Misses == 0 || s.Wanted != s.Served {
				t.Errorf("%+v", s)
			}
			if s.Amplification() != 1 {
				t.Errorf("amplification %v after all was read", s.Amplification())
			}
			r.end(t)
		}
	}
}

func TestReadersOfAChunkShareOneFetch(t *testing.T) {
	const readers = 50
	waiting, release := make(chan struct{}, readers), make(chan struct{})
	r := newRig(t, setup{config: Config{Verify: true, ReadAhead: -1}, origin: func(o *chunktest.Origin) {
		o.Before = func(context.Context, origin.Fetch) error { waiting <- struct{}{}; <-release; return nil }
	}})
	var wg sync.WaitGroup
	wg.Go(func() { r.check(t, 100, 10) })
	<-waiting
	for range readers - 1 {
		wg.Go(func() { r.check(t, 100, 10) })
	}
	r.eventually(t, "all wait", func() bool { f := r.flights[0]; return f != nil && len(f.claims) == readers })
	close(release)
	wg.Wait()
	if n := r.origin.Pieces.Load(); n != 1 {
		t.Errorf("%d pieces were fetched", n)
	}
}

// eventually waits for a condition under the device's lock.
func (r *rig) eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		ok := is()
		r.mu.Unlock()
		if ok {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func TestNeighboursMakeOneRequest(t *testing.T) {
	r := newRig(t, setup{config: Config{Verify: true, ReadAhead: -1}})
	r.check(t, 0, 200000)
	if n, p := r.origin.Fetches.Load(), r.origin.Pieces.Load(); n != 1 || p < 10 {
		t.Errorf("%d requests for %d chunks", n, p)
	}
}

func TestAReaderThatLeaves(t *testing.T) {
	release, ended := make(chan struct{}), make(chan error, 10)
	r := newRig(t, setup{config: Config{Verify: true, ReadAhead: -1}, origin: func(o *chunktest.Origin) {
		o.Before = func(ctx context.Context, _ origin.Fetch) error {
			select {
			case <-release:
			case <-ctx.Done():
			}
			ended <- ctx.Err()
			return ctx.Err()
		}
	}})
	read := func(ctx context.Context, answer chan error) {
		s, err := r.Read(ctx, 100, 10)
		s.Release()
		answer <- err
	}
	claims := func(n int) func() bool {
		return func() bool { f := r.flights[0]; return f != nil && len(f.claims) == n }
	}
	// One of two leaves: the other gets its bytes.
	ctx, cancel := context.WithCancel(t.Context())
	left, stayed := make(chan error, 1), make(chan error, 1)
	go read(ctx, left)
	go read(t.Context(), stayed)
	r.eventually(t, "both wait", claims(2))
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	release <- struct{}{}
	if err := <-stayed; err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error("the fetch was ended while somebody wanted it")
	}
	// The only one leaves: the fetch ends.
	r.image.MarkBad(0)
	ctx, cancel = context.WithCancel(t.Context())
	go read(ctx, left)
	r.eventually(t, "it waits", claims(1))
	cancel()
	<-left
	if err := <-ended; err == nil {
		t.Error("the fetch went on though nobody wanted it")
	}
	close(release)
	r.check(t, 0, 4096)
}

func TestCloseWakesReaders(t *testing.T) {
	r := newRig(t, setup{config: Config{Verify: true}, origin: func(o *chunktest.Origin) {
		o.Before = func(ctx context.Context, _ origin.Fetch) error { <-ctx.Done(); return ctx.Err() }
	}})
	answer := make(chan error)
	go func() {
		_, err := r.Read(t.Context(), 0, 100)
		answer <- err
	}()
	r.Replay(&format.Trace{Chunks: []format.Sum{r.index.Chunks[20].Sum}})
	r.Complete()
	r.eventually(t, "it waits", func() bool { f := r.flights[0]; return f != nil && len(f.claims) == 1 })
	r.Close()
	if err := <-answer; !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	if _, err := r.Read(t.Context(), 0, 100); !fault.Is(err, fault.Unavailable) {
		t.Error(err)
	}
}

func TestErrorsDoNotStick(t *testing.T) {
	var mu sync.Mutex
	down := true
	r := newRig(t, setup{config: Config{Verify: true}, origin: func(o *chunktest.Origin) {
		o.Before = func(context.Context, origin.Fetch) error {
			mu.Lock()
			defer mu.Unlock()
			if down {
				return fault.New(fault.Backend, "origin http://a.example answers 500")
			}
			return nil
		}
	}})
	for range 3 {
		_, err := r.Read(t.Context(), 0, 100)
		if !fault.Is(err, fault.Backend) || !strings.Contains(err.Error(), "a.example") || !strings.Contains(err.Error(), r.index.Chunks[0].Sum.String()) {
			t.Errorf("%v", err)
		}
	}
	mu.Lock()
	down = false
	mu.Unlock()
	r.checkAll(t)
	if s := r.Stats(); s.Errors != 3 || !strings.Contains(s.LastError, "a.example") {
		t.Errorf("%+v", s)
	}
}

func TestCorruptChunks(t *testing.T) {
	for name, twist := range map[string]func(b []byte) []byte{
		"bit":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"short": func(b []byte) []byte { return b[:len(b)-1] },
		"long":  func(b []byte) []byte { return append(b, 0) },
		"empty": func([]byte) []byte { return nil },
		"zeros": func(b []byte) []byte { return make([]byte, len(b)) },
	} {
		for _, stubborn := range []bool{false, true} {
			r := newRig(t, setup{image: chunktest.Options{Codec: format.Zstd}, config: Config{Verify: true, ReadAhead: -1}, origin: func(o *chunktest.Origin) {
				o.Stubborn = stubborn
				o.Twist = func(_ origin.Fetch, _ int, b []byte) []byte { return twist(b) }
			}})
			if !stubborn {
				r.checkAll(t)
			} else if _, err := r.Read(t.Context(), 0, 100); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), r.index.Chunks[0].Sum.String()) {
				t.Errorf("%s: %v", name, err)
			}
			if s := r.Stats(); s.Corrupt == 0 || s.LastError == "" {
				t.Errorf("%s: %+v", name, s)
			}
			r.end(t)
		}
	}
}

// TestEverythingAtOnce has many readers on a cache that is far too small, an origin that fails, corrupts and dawdles, readers that leave,
// and a prefetch of all.
func TestEverythingAtOnce(t *testing.T) {
	chance := func(n int) bool { return rand.IntN(n) == 0 }
	s := setup{
		image: chunktest.Options{Chunks: 300, Holes: true, Repeats: true, Codec: format.Zstd}, quota: 500 << 10, workingSet: 1,
		config: Config{Verify: true, Memory: 1 << 20, ReadAhead: 256 << 10},
		origin: func(o *chunktest.Origin) {
			o.Before = func(context.Context, origin.Fetch) error {
				if chance(20) {
					return fault.New(fault.Backend, "not now")
				}
				return nil
			}
			o.Twist = func(_ origin.Fetch, _ int, b []byte) []byte {
				if chance(20) {
					b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
				}
				return b
			}
		},
	}
	r := newRig(t, s)
	r.StartTrace()
	r.Complete()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 150 {
				r.disturbed(t, chance(10))
			}
		})
	}
	wg.Wait()
	if st := r.Stats(); st.Corrupt == 0 || st.Errors == 0 || st.Hits == 0 {
		t.Errorf("%+v", st)
	}
	if seen := r.StopTrace(); len(seen) == 0 {
		t.Error("nothing was traced")
	}
	if r.cache.Stats().Evicted == 0 {
		t.Error("nothing was evicted")
	}
}

// disturbed reads somewhere; it may fail, but never be wrong.
func (r *rig) disturbed(t *testing.T, leave bool) {
	off, n := rand.Int64N(r.Size()), rand.IntN(150000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if leave {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
		defer cancel()
	}
	s, err := r.Read(ctx, off, n)
	if err != nil {
		if !fault.Is(err, fault.Backend) && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		return
	}
	r.compare(t, off, n, s)
	s.Release()
}

// TestPassingThrough reads all of an image for which the cache has no room at all.
func TestPassingThrough(t *testing.T) {
	r := newRig(t, setup{quota: 30 << 10, config: Config{Verify: true, Memory: 1 << 20}})
	for range 2 {
		r.checkAll(t)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				r.check(t, rand.Int64N(r.Size()), rand.IntN(200000))
			}
		})
	}
	wg.Wait()
	if r.cache.Stats().Refused == 0 {
		t.Error("there was room")
	}
	if s := r.Stats(); s.Errors != 0 {
		t.Errorf("%+v", s)
	}
}
