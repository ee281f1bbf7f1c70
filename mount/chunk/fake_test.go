package chunk_test

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount/chunk"
)

// fakeServer stands for the chunkfs server where a test wants it to fail. It answers at the socket where the real one would.
type fakeServer struct {
	t       testing.TB
	runDir  string
	place   control.Place
	opened  control.Opened
	mu      sync.Mutex
	open    map[string]control.Open
	refuse  error         // of Open
	busy    error         // of Close
	stalled chan struct{} // while it is there, nothing but holds is answered before it is closed
	stats   control.Stats
}

func newFake(t testing.TB) *fakeServer {
	t.Helper()
	dir := t.TempDir()
	f := &fakeServer{t: t, runDir: dir, place: control.PlaceIn(dir), open: map[string]control.Open{}}
	if err := os.MkdirAll(f.place.Mounts(), 0o700); err != nil {
		t.Fatal(err)
	}
	f.image()
	lock, err := os.Create(f.place.KeeperLock())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil { // a keeper lives
		t.Fatal(err)
	}
	l, err := net.Listen("unix", f.place.Socket())
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: f.handler()}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		lock.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.open) != 0 {
			t.Errorf("the server still has %v open", f.open)
		}
	})
	return f
}

// image makes a complete image of one file on the data device and one in the metadata.
func (f *fakeServer) image() {
	f.t.Helper()
	content := bytes.Repeat([]byte("windlass"), 2048)
	root := &erofs.Node{Mode: unix.S_IFDIR | 0o755, ModTime: time.Unix(1e9, 5), Entries: []erofs.Entry{
		{Name: "big", Node: &erofs.Node{Mode: unix.S_IFREG | 0o644, Size: int64(len(content)), Extents: []erofs.Extent{{Size: int64(len(content))}}}},
		{Name: "small", Node: &erofs.Node{Mode: unix.S_IFREG | 0o644, Size: 6, Data: []byte("small\n")}},
	}}
	var meta bytes.Buffer
	if _, err := erofs.Write(&meta, root, erofs.Options{DeviceSize: int64(len(content))}); err != nil {
		f.t.Fatal(err)
	}
	f.opened = control.Opened{Mode: control.Direct, Metadata: filepath.Join(f.runDir, "meta"), Device: filepath.Join(f.runDir, "data")}
	f.opened.Image.Algorithm = 1
	for path, b := range map[string][]byte{f.opened.Metadata: meta.Bytes(), f.opened.Device: content} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fakeServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hold", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("PUT /v1/mounts/{id}", f.put)
	mux.HandleFunc("DELETE /v1/mounts/{id}", func(w http.ResponseWriter, r *http.Request) {
		if f.wait(r) {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.busy != nil {
				say(w, f.busy)
				return
			}
			delete(f.open, r.PathValue("id"))
		}
	})
	mux.HandleFunc("GET /v1/mounts/{id}", func(w http.ResponseWriter, r *http.Request) {
		if !f.wait(r) {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if _, ok := f.open[r.PathValue("id")]; !ok {
			say(w, fault.New(fault.NotFound, "there is no mount %s", r.PathValue("id")))
			return
		}
		_ = json.NewEncoder(w).Encode(f.stats)
	})
	return mux
}

func (f *fakeServer) put(w http.ResponseWriter, r *http.Request) {
	var o control.Open
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		say(w, err)
		return
	}
	f.mu.Lock()
	f.open[o.ID] = o // also when it then fails: it is to be closed all the same
	refuse, opened := f.refuse, f.opened
	f.mu.Unlock()
	if !f.wait(r) {
		return
	}
	if refuse != nil {
		say(w, refuse)
		return
	}
	_ = json.NewEncoder(w).Encode(opened)
}

// wait is false when who asks has gone.
func (f *fakeServer) wait(r *http.Request) bool {
	f.mu.Lock()
	stalled := f.stalled
	f.mu.Unlock()
	if stalled == nil {
		return true
	}
	select {
	case <-stalled:
		return true
	case <-r.Context().Done():
		return false
	}
}

// stall makes the server answer nothing until the answer is called.
func (f *fakeServer) stall() (resume func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stalled := make(chan struct{})
	f.stalled = stalled
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stalled = nil
		close(stalled)
	}
}

func say(w http.ResponseWriter, err error) {
	trouble, status := control.TroubleOf(err)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(trouble)
}

func (f *fakeServer) driver() *chunk.Driver {
	starter := control.NewStarter(control.StartConfig{RunDir: f.runDir, Shim: "/nonexistent", Server: "/nonexistent", CacheDir: f.runDir})
	f.t.Cleanup(starter.Close)
	return chunk.New(chunk.Config{Instance: "windlass-chunktest", Starter: starter, CacheDir: f.runDir})
}
