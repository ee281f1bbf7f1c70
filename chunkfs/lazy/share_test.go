package lazy

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// mate is another device of the image of a rig, with an origin of its own.
func (r *rig) mate(t testing.TB, o *chunktest.Origin) *rig {
	t.Helper()
	if o == nil {
		o = r.origin
	}
	config := r.cfg
	config.Origins = o
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		if n := len(d.flights) + d.completing; n != 0 {
			t.Errorf("%d flights are left", n)
		}
	})
	return &rig{Device: d, want: r.want, image: r.image, origin: o}
}

// nothingLeft checks that nothing is left in a Sharing.
func (s *Sharing) nothingLeft(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.leads) > 0 {
		t.Errorf("%d chunks are on their way though nobody wants any", len(s.leads))
	}
}

// TestDevicesShareFetches has many devices of an image want all of it at once: every chunk is fetched once, and nothing beside them.
func TestDevicesShareFetches(t *testing.T) {
	for _, verify := range []bool{true, false} {
		s := NewSharing()
		s.patience = time.Hour
		o := chunktest.Options{Chunks: 300, Holes: true, Repeats: true, Codec: format.Zstd}
		r := newRig(t, setup{image: o, config: Config{Verify: verify, Sharing: s}})
		stored := int64(0)
		for _, c := range r.index.Chunks {
			stored += int64(c.Stored)
		}
		var wg sync.WaitGroup
		devices := []*rig{r}
		for range 15 {
			devices = append(devices, r.mate(t, nil))
		}
		for n, d := range devices {
			if n%4 == 0 {
				d.Complete()
			}
			wg.Go(func() {
				for range 20 {
					d.check(t, rand.Int64N(r.Size()), rand.IntN(100000))
				}
				d.checkAll(t)
			})
		}
		wg.Wait()
		fetched := int64(0)
		for _, d := range devices {
			fetched += d.Stats().Fetched
			d.Close()
		}
		if pieces := r.origin.Pieces.Load(); pieces != int64(len(r.index.Chunks)) || fetched != stored {
			t.Errorf("verify %v: %d chunks were fetched of %d, %d bytes of %d", verify, pieces, len(r.index.Chunks), fetched, stored)
		}
		s.nothingLeft(t)
		r.end(t)
	}
}

// TestWhoTrailsGoesOn has the device that fetches for another one be closed, fail, or never end: the other one asks its own origin.
func TestWhoTrailsGoesOn(t *testing.T) {
	for name, patience := range map[string]time.Duration{"closed": time.Hour, "left": time.Hour, "failed": time.Hour, "hangs": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			s, begun, fail := NewSharing(), make(chan struct{}, 8), make(chan struct{})
			s.patience = patience
			raised := make(chan struct{}, 8)
			r := newRig(t, setup{config: Config{Verify: true, ReadAhead: -1, Sharing: s}, origin: func(o *chunktest.Origin) {
				o.Before = func(ctx context.Context, f origin.Fetch) error {
					begun <- struct{}{}
					select {
					case <-f.Raise:
						raised <- struct{}{}
					case <-ctx.Done():
					}
					select {
					case <-fail:
						return fault.New(fault.Backend, "not now")
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			}})
			other := r.mate(t, chunktest.NewOrigin(r.want))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg sync.WaitGroup
			if name == "closed" { // nobody waits for it until the other one does, which makes it urgent
				r.Replay(&format.Trace{Chunks: []format.Sum{r.index.Chunks[0].Sum, r.index.Chunks[1].Sum}})
			} else {
				wg.Go(func() { _, _ = r.Read(ctx, 0, 100) })
			}
			<-begun
			wg.Go(func() { other.check(t, 0, 100) })
			if name != "hangs" {
				other.eventually(t, "it trails", func() bool { f := other.flights[0]; return f != nil && f.follows != nil })
			}
			switch <-raised; name {
			case "closed":
				r.Close()
			case "left":
				cancel()
			case "failed":
				close(fail)
			case "hangs":
				other.eventually(t, "it has come", func() bool { return other.image.State(0) == cache.Good })
				cancel()
			}
			wg.Wait()
			if n := other.origin.Fetches.Load(); n != 1 {
				t.Errorf("%d requests of its own", n)
			}
			if st := other.Stats(); st.Errors != 0 {
				t.Errorf("%+v", st)
			}
			s.nothingLeft(t)
		})
	}
}

// TestDevicesShareWithoutRoom hands on what the cache has no room for.
func TestDevicesShareWithoutRoom(t *testing.T) {
	s, release := NewSharing(), make(chan struct{})
	s.patience = time.Hour
	r := newRig(t, setup{quota: 1, config: Config{Verify: true, ReadAhead: -1, Sharing: s}, origin: func(o *chunktest.Origin) {
		o.Before = func(context.Context, origin.Fetch) error { <-release; return nil }
	}})
	other := r.mate(t, nil)
	var wg sync.WaitGroup
	for _, d := range []*rig{r, other} {
		wg.Go(func() { d.check(t, 0, 100) })
	}
	for _, d := range []*rig{r, other} {
		d.eventually(t, "it waits", func() bool { f := d.flights[0]; return f != nil && (f.run != nil || f.follows != nil) })
	}
	close(release)
	wg.Wait()
	if n := r.origin.Pieces.Load(); n != 1 {
		t.Errorf("%d chunks were fetched", n)
	}
}

// TestOtherImagesShareFetches has two images with the same chunk want it at once.
func TestOtherImagesShareFetches(t *testing.T) {
	s, release := NewSharing(), make(chan struct{})
	s.patience = time.Hour
	hold := func(o *chunktest.Origin) {
		o.Before = func(context.Context, origin.Fetch) error { <-release; return nil }
	}
	r := newRig(t, setup{image: chunktest.Options{Seed: 1}, config: Config{Verify: true, ReadAhead: -1, Sharing: s}, origin: hold})
	b := chunktest.New(t, chunktest.Options{Seed: 2, Like: r.want})
	image, err := r.cache.Add(t.Context(), b.Digest, b.Manifest, b.Index, b.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Release()
	config, o := r.cfg, chunktest.NewOrigin(b)
	config.Image, config.Origins = image, o
	hold(o)
	d, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	other := &rig{Device: d, want: b}
	var wg sync.WaitGroup
	for _, d := range []*rig{r, other} {
		wg.Go(func() { d.check(t, 0, int(d.Size())) })
	}
	for _, d := range []*rig{r, other} {
		d.eventually(t, "it waits", func() bool {
			n := 0
			for _, f := range d.flights {
				if f.run != nil || f.follows != nil {
					n++
				}
			}
			return n == 64
		})
	}
	close(release)
	wg.Wait()
	if n := r.origin.Pieces.Load() + o.Pieces.Load(); n != 96 {
		t.Errorf("%d chunks were fetched of 2 times 64, of which 32 are shared", n)
	}
}

// TestManyDevicesAtOnce has several devices share while origins fail and corrupt, readers leave, devices close, and there is little room.
func TestManyDevicesAtOnce(t *testing.T) {
	s := NewSharing()
	s.patience = 5 * time.Millisecond
	chance := func(n int) bool { return rand.IntN(n) == 0 }
	r := newRig(t, setup{
		image: chunktest.Options{Chunks: 300, Holes: true, Repeats: true, Codec: format.Zstd}, quota: 500 << 10, workingSet: 1,
		config: Config{Verify: true, Memory: 1 << 20, ReadAhead: 256 << 10, Sharing: s},
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
	})
	var wg sync.WaitGroup
	for n := range 6 {
		wg.Go(func() {
			for range 5 {
				d := r.mate(t, nil)
				if n%2 == 0 {
					d.Complete()
				}
				var readers sync.WaitGroup
				for range 3 {
					readers.Go(func() {
						for range 15 {
							d.disturbed(t, chance(10))
						}
					})
				}
				readers.Wait()
				d.Close()
			}
		})
	}
	wg.Wait()
	s.nothingLeft(t)
}
