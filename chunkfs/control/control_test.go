package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// serverVar makes this program a keeper or a server for the tests of starting; its value says which way it goes.
const serverVar = "HTTP_PROXY" // one of the variables that a server is given

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "keeper" || os.Args[1] == "chunkfs") {
		os.Exit(pretend(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// pretend is keeper and server in one: it takes the lock and answers holds until the last one has gone.
func pretend(args []string) int {
	flag := func(name string) string { return args[slices.Index(args, name)+1] }
	lock, err := os.OpenFile(flag("--lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil || unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return 3
	}
	if os.Getenv(serverVar) == "fail" {
		os.Stderr.WriteString("there is no room for a cache\n")
		return 1
	}
	place := PlaceIn(flag("--run-dir"))
	if err := os.WriteFile(filepath.Join(string(place), "starts"), append(read(filepath.Join(string(place), "starts")), '.'), 0o600); err != nil {
		return 1
	}
	_ = os.Remove(place.Socket())
	l, err := net.Listen("unix", place.Socket())
	if err != nil {
		return 1
	}
	holds := make(chan int, 64)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hold", func(w http.ResponseWriter, r *http.Request) {
		holds <- 1
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		holds <- -1
	})
	go func() { _ = http.Serve(l, mux) }()
	for n := <-holds; n > 0; {
		n += <-holds
	}
	return 0
}

func read(path string) []byte {
	b, _ := os.ReadFile(path)
	return b
}

// starter starts this program as its server.
func starter(t *testing.T, dir string) *Starter {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := NewStarter(StartConfig{RunDir: dir, Shim: self, Server: self, CacheDir: dir})
	t.Cleanup(func() {
		s.Close()
		for deadline := time.Now().Add(10 * time.Second); s.Alive(); {
			if time.Now().After(deadline) {
				t.Fatal("the server goes on although nobody holds it")
			}
			time.Sleep(time.Millisecond) // a lock can only be looked at
		}
	})
	return s
}

func TestOneServerIsStartedWhoeverAsks(t *testing.T) {
	dir := t.TempDir()
	a, b := starter(t, dir), starter(t, dir)
	if a.Alive() {
		t.Fatal("there is a server before anybody asked")
	}
	var wg sync.WaitGroup
	for range 8 {
		for _, s := range []*Starter{a, b} {
			wg.Go(func() {
				if _, err := s.Server(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if starts := read(filepath.Join(dir, "chunkfs", "starts")); len(starts) != 1 || !a.Alive() {
		t.Errorf("%d servers were started", len(starts))
	}
	a.Close() // both, before either is waited for
	b.Close()
}

func TestAServerThatDiedIsStartedAgain(t *testing.T) {
	s := starter(t, t.TempDir())
	for n := range 3 {
		if _, err := s.Server(t.Context()); err != nil {
			t.Fatal(err)
		}
		if starts := read(filepath.Join(string(s.Place()), "starts")); len(starts) != n+1 {
			t.Fatalf("%d servers were started, want %d", len(starts), n+1)
		}
		s.Close() // and with it the server ends, sooner or later; asked meanwhile, it is to be there all the same
		for s.Alive() {
			time.Sleep(time.Millisecond)
		}
	}
}

func TestAServerThatIsAboutToEndIsNoServer(t *testing.T) {
	s := starter(t, t.TempDir())
	for range 20 {
		if _, err := s.Server(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}

func TestWhyAServerDoesNotStartIsTold(t *testing.T) {
	t.Setenv(serverVar, "fail")
	s := starter(t, t.TempDir())
	_, err := s.Server(t.Context())
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "there is no room for a cache") || !strings.Contains(fault.HintOf(err), "server.log") {
		t.Errorf("got %v (%s, %s)", err, fault.KindOf(err), fault.HintOf(err))
	}
	s.cfg.Shim = "/nonexistent"
	if _, err := s.Server(t.Context()); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("no shim: %v", err)
	}
}

func TestOnlyWhatAServerNeedsIsPassedOn(t *testing.T) {
	got := environment([]string{"PATH=/bin", "https_proxy=http://p", "NOTIFY_SOCKET=/run/x", "LISTEN_FDS=1", "SECRET=hush", "GOMEMLIMIT=1GiB"})
	if want := []string{"PATH=/bin", "https_proxy=http://p", "GOMEMLIMIT=1GiB"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// serve answers at a client's socket, in a directory with a path longer than a socket's address may be.
func serve(t *testing.T, mux *http.ServeMux) Client {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	l, err := net.Listen("unix", "control.sock")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: mux}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return Client{Socket: filepath.Join(dir, "control.sock")}
}

func TestEveryQuestion(t *testing.T) {
	mux := http.NewServeMux()
	var got Open
	answer := func(pattern string, v any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(v) })
	}
	image := format.BLAKE3.Of(nil)
	mux.HandleFunc("PUT /v1/mounts/12", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewDecoder(r.Body).Decode(&got)
		_ = json.NewEncoder(w).Encode(Opened{Image: image, Mode: Lazy, Device: "/d"})
	})
	answer("GET /v1/mounts/12", Stats{Image: image, Size: 7})
	answer("GET /v1/mounts", []Open{{ID: "12"}})
	mux.HandleFunc("GET /v1/mounts/12/files", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode([]File{{Path: r.URL.Query().Get("latest")}})
	})
	mux.HandleFunc("POST /v1/mounts/12/trace", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(format.Trace{Role: r.URL.Query().Get("do"), Image: image})
	})
	mux.HandleFunc("DELETE /v1/mounts/12", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("DELETE /v1/mounts/13", func(w http.ResponseWriter, _ *http.Request) {
		trouble, status := TroubleOf(fault.New(fault.NotFound, "no such mount"))
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(trouble)
	})
	c, ctx := serve(t, mux), t.Context()

	opened, err := c.Open(ctx, Open{ID: "12", Image: "debian", Origins: []origin.Config{{URL: "http://h", Token: "hush"}}, Verify: true})
	if err != nil || opened.Image != image || opened.Mode != Lazy || got.Origins[0].Token != "hush" || !got.Verify {
		t.Errorf("open: %+v, %v; the server got %+v", opened, err, got)
	}
	if s, err := c.Stats(ctx, "12"); err != nil || s.Size != 7 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	if all, err := c.List(ctx); err != nil || len(all) != 1 {
		t.Errorf("list: %+v, %v", all, err)
	}
	if f, err := c.Files(ctx, "12", true); err != nil || f[0].Path != "true" {
		t.Errorf("files: %+v, %v", f, err)
	}
	if err := c.StartTrace(ctx, "12"); err != nil {
		t.Error(err)
	}
	if tr, err := c.StopTrace(ctx, "12"); err != nil || tr.Role != "stop" {
		t.Errorf("trace: %+v, %v", tr, err)
	}
	for _, id := range []string{"12", "13"} {
		if err := c.Close(ctx, id); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func TestErrorsKeepTheirKindAndTellNoSecret(t *testing.T) {
	mux := http.NewServeMux()
	said := fault.Hintf(fault.New(fault.Corrupt, "chunk blake3:ab from http://h is damaged"), "repair the store")
	mux.HandleFunc("PUT /v1/mounts/1", func(w http.ResponseWriter, _ *http.Request) {
		trouble, status := TroubleOf(said)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(trouble)
	})
	mux.HandleFunc("PUT /v1/mounts/2", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", 500) })
	mux.HandleFunc("PUT /v1/mounts/3", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("PUT /v1/mounts/4", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"image":`) })
	c := serve(t, mux)
	order := func(id string) Open {
		return Open{ID: id, Origins: []origin.Config{{URL: "http://me:hush@h", Password: "hush"}}}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	gone, giveUp := context.WithCancel(t.Context())
	giveUp()
	for id, tc := range map[string]struct {
		ctx  context.Context
		kind fault.Kind
		says string
	}{
		"1": {t.Context(), fault.Corrupt, "is damaged"},
		"2": {t.Context(), fault.Internal, "answered 500"},
		"3": {ctx, fault.Timeout, "has not answered PUT /v1/mounts/3"},
		"4": {t.Context(), fault.Internal, "read the answer"},
		"5": {gone, fault.Internal, "context canceled"},
	} {
		_, err := c.Open(tc.ctx, order(id))
		if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error()+fault.HintOf(err), "hush") {
			t.Errorf("%s: %v (%s), want %s that says %q", id, err, fault.KindOf(err), tc.kind, tc.says)
		}
		if id == "1" && fault.HintOf(err) != "repair the store" {
			t.Errorf("the hint is %q", fault.HintOf(err))
		}
		if id == "5" && !errors.Is(err, context.Canceled) {
			t.Errorf("%v is not context.Canceled", err)
		}
	}
	nobody := Client{Socket: filepath.Join(t.TempDir(), "control.sock")}
	if _, err := nobody.Stats(t.Context(), "1"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a server: %v (%s)", err, fault.KindOf(err))
	}
}

func TestAHoldLastsUntilItIsClosed(t *testing.T) {
	mux := http.NewServeMux()
	let := make(chan struct{})
	mux.HandleFunc("GET /v1/hold", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(let)
	})
	c := serve(t, mux)
	ctx, cancel := context.WithCancel(t.Context())
	hold, err := c.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // ends no hold that is there
	select {
	case <-let:
		t.Fatal("it ended with the context that it was asked for in")
	case <-time.After(50 * time.Millisecond):
	}
	hold.Close()
	select {
	case <-let:
	case <-time.After(10 * time.Second):
		t.Fatal("the server still holds")
	}
	if _, err := io.Copy(io.Discard, hold); err == nil {
		t.Error("reading what is closed is no error")
	}
}
