package uri_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/uri"
)

// drip serves the beginning of data and then waits; begun is closed when the beginning is sent.
func drip(t testing.TB, data []byte) (u string, begun chan struct{}) {
	t.Helper()
	begun = make(chan struct{})
	var once sync.Once
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		once.Do(func() { close(begun) })
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	return s.URL, begun
}

func TestCancelInTheMiddle(t *testing.T) {
	im := images(t, tree(t))
	patient := uri.New(uri.Config{Instance: instance})
	for _, name := range []string{"squashfs", "tar", "tar.gz", "tar.zst", "tar.xz"} {
		t.Run(name, func(t *testing.T) {
			tg := target(t)
			u, begun := drip(t, must(t, im[name]))
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-begun; cancel() }()
			before := openFiles(t)
			start := time.Now()
			if _, err := patient.Mount(ctx, 5, spec(u), nil, tg); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("it took %v", d)
			}
			if after := openFiles(t); after > before+1 { // the server's end of the connection goes a moment later
				t.Errorf("%d descriptors before, %d after", before, after)
			}
			if _, st, err := patient.Probe(t.Context(), 5, spec(u), tg); st != mount.Gone || err != nil {
				t.Errorf("probe: %v %v", st, err)
			}
		})
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestChangesOnce: the file is another one after the connection broke; the whole is read anew and is right.
func TestChangesOnce(t *testing.T) {
	im := images(t, tree(t))
	for _, name := range []string{"squashfs", "tar.zst"} {
		data := must(t, im[name])
		n := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n++
			w.Header().Set("Etag", fmt.Sprintf(`"%d"`, min(n, 2)))
			if n == 1 {
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				_, _ = w.Write(data[:len(data)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "x", time.Time{}, bytes.NewReader(data))
		}))
		t.Cleanup(s.Close)
		tg := target(t)
		sp := spec(s.URL)
		sp.URI.Digest = digestOf(t, im[name])
		a, err := driver().Mount(t.Context(), 3, sp, nil, tg)
		if err != nil {
			t.Fatal(name, err)
		}
		if err := driver().Unmount(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
	}
}

// recorder keeps what a user sees in the timeline.
type recorder struct {
	mu     sync.Mutex
	stages []string
	bytes  map[string][2]int64
}

func (r *recorder) Begin(stage string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stages = append(r.stages, stage)
	return len(r.stages) - 1
}
func (r *recorder) Progress(token int, bytes, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes[r.stages[token]] = [2]int64{bytes, total}
}
func (r *recorder) End(int, error, string) {}

func TestTimeline(t *testing.T) {
	im := images(t, tree(t))
	for name, stage := range map[string]string{"squashfs": "uri.download", "tar.xz": "uri.unpack"} {
		rec := &recorder{bytes: map[string][2]int64{}}
		tg := target(t)
		data := must(t, im[name])
		a, err := driver().Mount(step.With(t.Context(), rec), 3, spec(files(t, map[string][]byte{"f": data})+"f"), nil, tg)
		if err != nil {
			t.Fatal(err)
		}
		if err := driver().Unmount(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
		if n := int64(len(data)); rec.bytes[stage] != [2]int64{n, n} {
			t.Errorf("%s: progress %v of steps %v, want all %d bytes in %s", name, rec.bytes, rec.stages, n, stage)
		}
	}
}

// TestGoroutines: nothing runs on after a hundred downloads, most of which fail.
func TestGoroutines(t *testing.T) {
	im := images(t, tree(t))
	data := must(t, im["tar.zst"])
	base := files(t, map[string][]byte{"whole": data, "cut": data[:len(data)/2]})
	run := func() {
		tg := target(t)
		if _, err := driver().Mount(t.Context(), 3, spec(base+"cut"), nil, tg); err == nil {
			t.Fatal("half an archive was mounted")
		}
		a, err := driver().Mount(t.Context(), 3, spec(base+"whole"), nil, tg)
		if err != nil {
			t.Fatal(err)
		}
		if err := driver().Unmount(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
	}
	run()
	before := runtime.NumGoroutine()
	for range 20 {
		run()
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}
