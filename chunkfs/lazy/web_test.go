package lazy

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/chunktest"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// far is a web server of packs, some time away.
type far struct {
	*httptest.Server
	requests, bytes atomic.Int64
}

func newFar(t testing.TB, i *chunktest.Image, away time.Duration) *far {
	f := &far{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.requests.Add(1)
		timer := time.NewTimer(away)
		defer timer.Stop()
		<-timer.C
		for sum, pack := range i.Packs {
			if r.URL.Path == "/"+format.BlobPath(format.Digest{Algorithm: i.Decoded.Algorithm, Sum: sum}) {
				http.ServeContent(&counting{w, f}, r, "", time.Unix(1, 0), bytes.NewReader(pack))
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

type counting struct {
	http.ResponseWriter
	far *far
}

func (c *counting) Write(b []byte) (int, error) {
	c.far.bytes.Add(int64(len(b)))
	return c.ResponseWriter.Write(b)
}

// overWeb is a device whose origin is a web server.
func overWeb(t testing.TB, o chunktest.Options, away time.Duration) (*rig, *far) {
	t.Helper()
	f := newFar(t, chunktest.New(t, o), away)
	set, err := origin.New([]origin.Config{{URL: f.URL}}, origin.Options{Limits: origin.Limits{ReadAhead: 16}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return newRig(t, setup{image: o, config: Config{Verify: true}, fetcher: set}), f
}

// TestAStartFarAway reads what a trace names, from a server some time away: with the trace it takes few requests, several at a time,
// and without it many, one after the other. Counts are compared; times are logged.
func TestAStartFarAway(t *testing.T) {
	o := chunktest.Options{Chunks: 600, Largest: 64 << 10, Codec: format.Zstd, PackSize: 4 << 20}
	var waited [2]int64
	for k, replay := range []bool{false, true} {
		r, f := overWeb(t, o, 20*time.Millisecond)
		var wanted []int
		for i := range r.index.Extents {
			if i/6%3 == 0 && r.index.Extents[i].Chunk != format.Zero {
				wanted = append(wanted, i)
			}
		}
		begin := time.Now()
		if replay {
			tr := &format.Trace{}
			for _, i := range wanted {
				tr.Chunks = append(tr.Chunks, r.index.Chunks[r.index.Extents[i].Chunk].Sum)
			}
			r.Replay(tr)
			// All of it comes without a reader: those that come meanwhile would wait, more or less often as the machine is slow.
			r.eventuallyDone(t)
		}
		for _, i := range wanted {
			r.check(t, r.index.Start(i), int(r.index.Extents[i].Size))
		}
		s := r.Stats()
		waited[k] = s.Misses
		t.Logf("trace %v: %v for %d chunks, %d waited for, %d requests, %d bytes for %d needed, amplification %.2f", replay,
			time.Since(begin), len(wanted), s.Misses, f.requests.Load(), f.bytes.Load(), s.Needed, s.Amplification())
		// The device's own requests: when the machine is slow, origins ask twice.
		if replay && (s.Requests > 60 || s.Amplification() > 1.2) {
			t.Errorf("%d requests, amplification %.2f", s.Requests, s.Amplification())
		}
		r.end(t)
	}
	if waited[0] == 0 || waited[1] != 0 {
		t.Errorf("with the trace %d reads waited, without %d", waited[1], waited[0])
	}
}

// TestManyReadersOverTheWeb is for the race detector and for the real origin's way to deliver.
func TestManyReadersOverTheWeb(t *testing.T) {
	r, _ := overWeb(t, chunktest.Options{Chunks: 300, Holes: true, Repeats: true, Codec: format.LZ4}, time.Millisecond)
	r.Complete()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { r.checkAll(t) })
	}
	wg.Wait()
	r.eventuallyDone(t)
}

// TestAFullDisk reads while others have filled the file system, and keeps what it reads once they have left.
func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("windlass-test", dir, "tmpfs", unix.MS_NOSUID, "mode=0700,size=4m"); err != nil {
		t.Skipf("NOT TESTED: a full file system: mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	r := newRig(t, setup{image: chunktest.Options{Chunks: 200, Holes: true}, dir: dir, quota: 1 << 30, config: Config{Verify: true}})
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, make([]byte, 8<<20), 0o600); err == nil {
		t.Fatal("it is not full")
	}
	r.checkAll(t)
	if s := r.Stats(); s.Errors != 0 || r.image.Cached() != 0 {
		t.Errorf("%d bytes are cached: %+v", r.image.Cached(), s)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); r.image.State(0) != cache.Good && time.Now().Before(end); {
		r.check(t, 0, 100)
	}
	r.checkAll(t)
	if !r.IsComplete() {
		t.Error("nothing is kept though there is room again")
	}
}
