package origin_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// image is a store in a directory, with one pack.
type image struct {
	dir    string
	pack   format.Pack
	data   []byte
	pieces []origin.Piece
	digest format.Digest
}

func newImage(t testing.TB) *image {
	t.Helper()
	im := &image{dir: t.TempDir(), data: make([]byte, 300_000)}
	_, _ = rand.NewChaCha8([32]byte{1}).Read(im.data)
	im.digest = format.SHA256.Of(im.data)
	im.pack = format.Pack{Sum: im.digest.Sum, Size: int64(len(im.data))}
	for at := int64(0); at < im.pack.Size; at += 30_000 {
		im.pieces = append(im.pieces, origin.Piece{Offset: at, Size: 29_000})
	}
	im.put(t, format.BlobPath(im.digest), im.data)
	im.put(t, format.TagDir+"/a", []byte(im.digest.String()+"\n"))
	return im
}

func (im *image) put(t testing.TB, path string, b []byte) {
	t.Helper()
	path = filepath.Join(im.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// fetch gets the pieces and compares them.
func (im *image) fetch(ctx context.Context, s origin.Fetcher, class origin.Class) error {
	return s.Fetch(ctx, format.SHA256, origin.Fetch{Pack: im.pack, Pieces: im.pieces, Class: class, Deliver: im.deliver})
}

func (im *image) deliver(i int, b []byte) error {
	p := im.pieces[i]
	if !bytes.Equal(b, im.data[p.Offset:p.Offset+p.Size]) {
		return fault.New(fault.Corrupt, "chunk-%d is damaged", i)
	}
	return nil
}

func open(t testing.TB, o origin.Options, urls ...string) *origin.Set {
	t.Helper()
	var cfgs []origin.Config
	for _, u := range urls {
		cfgs = append(cfgs, origin.Config{URL: u})
	}
	s, err := origin.New(cfgs, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func serve(t testing.TB, dir string) string {
	t.Helper()
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return s.URL
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestReads(t *testing.T) {
	im := newImage(t)
	for name, url := range map[string]string{"path": im.dir, "file": "file://" + im.dir, "http": serve(t, im.dir), "http below": serve(t, filepath.Dir(im.dir)) + "/" + filepath.Base(im.dir) + "/"} {
		t.Run(name, func(t *testing.T) {
			s := open(t, origin.Options{}, url)
			ctx := within(t, 10*time.Second)
			for class := origin.Demand; class <= origin.Background; class++ {
				if err := im.fetch(ctx, s, class); err != nil {
					t.Error(err)
				}
			}
			if d, err := s.Tag(ctx, "a"); err != nil || d != im.digest {
				t.Errorf("tag: %v, %v", d, err)
			}
			if b, err := s.Blob(ctx, im.digest, 1<<20); err != nil || !bytes.Equal(b, im.data) {
				t.Errorf("blob: %d bytes, %v", len(b), err)
			}
			if _, err := s.Blob(ctx, im.digest, 1000); !fault.Is(err, fault.Backend) || !strings.Contains(err.Error(), "1000 are the limit") {
				t.Errorf("blob beyond its limit: %v", err)
			}
			for what, err := range map[string]error{"tag": third(s.Tag(ctx, "none")), "trace": third(s.Trace(ctx, im.digest, "boot")),
				"blob": third(s.Blob(ctx, format.SHA256.Of(nil), 10))} {
				if !fault.Is(err, fault.NotFound) {
					t.Errorf("missing %s: %v", what, err)
				}
			}
			if h := s.Health()[0]; !h.Healthy || h.Requests == 0 || h.Bytes < 3*270_000 {
				t.Errorf("health: %+v", h)
			}
		})
	}
}

func third[T any](_ T, err error) error { return err }

func TestDirectoryIsNotLeft(t *testing.T) {
	im := newImage(t)
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte(im.digest.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(im.dir, "tags", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(im.dir, "tags", "inside")); err != nil {
		t.Fatal(err)
	}
	s := open(t, origin.Options{}, im.dir)
	if _, err := s.Tag(within(t, time.Second), "link"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a link to the outside gives %v", err)
	}
	if _, err := s.Tag(within(t, time.Second), "inside"); err != nil {
		t.Errorf("a link inside gives %v", err)
	}
	if err := os.MkdirAll(filepath.Join(im.dir, "tags", "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tag(within(t, time.Second), "dir"); !fault.Is(err, fault.Backend) {
		t.Errorf("a directory gives %v", err)
	}
}

func TestDamageComesFromElsewhere(t *testing.T) {
	im, bad := newImage(t), newImage(t)
	damaged := bytes.Clone(im.data)
	damaged[100_000] ^= 1
	bad.put(t, format.BlobPath(im.digest), damaged)
	s := open(t, origin.Options{}, bad.dir, im.dir)
	if err := im.fetch(within(t, 5*time.Second), s, origin.Demand); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Blob(within(t, 5*time.Second), im.digest, 1<<20); err != nil || !bytes.Equal(b, im.data) {
		t.Errorf("blob: %v", err)
	}
	if h := s.Health(); h[0].Corrupt == 0 || h[1].Corrupt != 0 {
		t.Errorf("health: %+v", h)
	}

	alone := open(t, origin.Options{}, bad.dir)
	for range 3 {
		err := im.fetch(within(t, 5*time.Second), alone, origin.Demand)
		if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "chunk-3") || !strings.Contains(err.Error(), im.digest.String()) {
			t.Errorf("fetch: %v", err)
		}
	}
	if _, err := alone.Blob(within(t, 5*time.Second), im.digest, 1<<20); !fault.Is(err, fault.Corrupt) {
		t.Errorf("blob: %v", err)
	}
	bad.put(t, format.BlobPath(im.digest), im.data)
	if err := im.fetch(within(t, 5*time.Second), alone, origin.Demand); err != nil {
		t.Errorf("repaired: %v", err)
	}
}

func TestErrorOfTheTakerEndsIt(t *testing.T) {
	im := newImage(t)
	full := errors.New("no room")
	s := open(t, origin.Options{}, serve(t, im.dir), im.dir)
	calls := 0
	err := s.Fetch(within(t, 5*time.Second), format.SHA256, origin.Fetch{Pack: im.pack, Pieces: im.pieces, Deliver: func(int, []byte) error { calls++; return full }})
	if !errors.Is(err, full) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

func TestBadFetches(t *testing.T) {
	im := newImage(t)
	s := open(t, origin.Options{}, im.dir)
	for name, f := range map[string]origin.Fetch{
		"behind the pack": {Pack: im.pack, Pieces: []origin.Piece{{Offset: im.pack.Size - 1, Size: 2}}},
		"overlapping":     {Pack: im.pack, Pieces: []origin.Piece{{Offset: 0, Size: 10}, {Offset: 9, Size: 2}}},
		"empty":           {Pack: im.pack, Pieces: []origin.Piece{{Offset: 0, Size: 0}}},
		"overflow":        {Pack: im.pack, Pieces: []origin.Piece{{Offset: 1<<63 - 1, Size: 10}}},
		"negative":        {Pack: im.pack, Pieces: []origin.Piece{{Offset: -1, Size: 10}}},
		"huge pack":       {Pack: format.Pack{Size: 1 << 40}, Pieces: []origin.Piece{{Offset: 0, Size: 10}}},
		"class":           {Pack: im.pack, Class: 7},
	} {
		if err := s.Fetch(t.Context(), format.SHA256, f); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Fetch(t.Context(), format.SHA256, origin.Fetch{Pack: im.pack}); err != nil {
		t.Errorf("nothing: %v", err)
	}
}

// outage is a listener that can be taken away and brought back at the same address.
func outage(t *testing.T, dir string) (url string, down, up func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	var srv *http.Server
	start := func(l net.Listener) {
		srv = &http.Server{Handler: http.FileServer(http.Dir(dir))} //nolint:gosec // a test
		go func(s *http.Server) { _ = s.Serve(l) }(srv)
	}
	start(l)
	down = func() { srv.Close() }
	up = func() {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		start(l)
	}
	t.Cleanup(func() { srv.Close() })
	return "http://" + addr, down, up
}

func TestReadsResumeWhenTheOriginIsBack(t *testing.T) {
	im := newImage(t)
	url, down, up := outage(t, im.dir)
	s := open(t, origin.Options{}, url)
	ctx := within(t, 60*time.Second)
	if err := im.fetch(ctx, s, origin.Demand); err != nil {
		t.Fatal(err)
	}
	down()
	const readers = 20
	ends := make(chan time.Time, readers)
	for range readers {
		go func() {
			if err := im.fetch(ctx, s, origin.Demand); err != nil {
				t.Error(err)
			}
			ends <- time.Now()
		}()
	}
	time.Sleep(3 * time.Second) // an outage takes time
	if len(ends) > 0 || s.Health()[0].Healthy {
		t.Errorf("%d reads ended while the origin was down; health %+v", len(ends), s.Health()[0])
	}
	up()
	back := time.Now()
	var last time.Time
	for range readers {
		last = <-ends
	}
	t.Logf("figure: after an outage of 3 s, %d reads were done %v after the origin was back", readers, last.Sub(back).Round(time.Millisecond))
	if last.Sub(back) > time.Second*slowdown {
		t.Errorf("reads resumed only after %v", last.Sub(back))
	}
}

func TestBackgroundKeepsToItsBandwidth(t *testing.T) {
	im := newImage(t)
	s := open(t, origin.Options{Bandwidth: 400_000}, serve(t, im.dir))
	began := time.Now()
	if err := im.fetch(within(t, 20*time.Second), s, origin.Background); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("300 kB at 400 kB/s took only %v", took)
	}
	began = time.Now()
	raise := make(chan struct{})
	close(raise)
	err := s.Fetch(within(t, 20*time.Second), format.SHA256, origin.Fetch{Pack: im.pack, Pieces: im.pieces, Class: origin.Background, Raise: raise, Deliver: im.deliver})
	if took := time.Since(began); err != nil || took > 400*time.Millisecond*slowdown {
		t.Errorf("raised it took %v: %v", took, err)
	}
}

func TestDemandPassesTheBackground(t *testing.T) {
	im := newImage(t)
	var busy, most atomic.Int64
	files := http.FileServer(http.Dir(im.dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := busy.Add(1)
		defer busy.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s := open(t, origin.Options{Bandwidth: 100_000, Limits: origin.Limits{Demand: 2, Background: 1}}, srv.URL)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	for range cap(ended) { // these take long
		go func() { ended <- im.fetch(ctx, s, origin.Background) }()
	}
	if err := im.fetch(within(t, 2*time.Second*slowdown), s, origin.Demand); err != nil {
		t.Error(err)
	}
	if most.Load() > 3 {
		t.Errorf("%d requests at once, of 2 and 1", most.Load())
	}
	cancel()
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	im := newImage(t)
	begun := make(chan struct{}, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { begun <- struct{}{}; <-r.Context().Done() }))
	t.Cleanup(srv.Close)
	s := open(t, origin.Options{}, srv.URL)
	ended := make(chan error, 1)
	go func() { ended <- im.fetch(t.Context(), s, origin.Demand) }()
	<-begun
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !fault.Is(err, fault.Unavailable) {
		t.Errorf("the fetch gives %v", err)
	}
	if err := im.fetch(t.Context(), s, origin.Demand); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a fetch after that gives %v", err)
	}
}
