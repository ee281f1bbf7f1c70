package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/build"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// world is a server under its keeper, a store with an image, and a web server that gives it out.
type world struct {
	t      *testing.T
	dir    string
	tree   string // what the image was built from
	image  format.Digest
	web    *httptest.Server
	down   atomic.Bool // the web server refuses
	keeper *exec.Cmd
	place  control.Place
	client control.Client
	hold   io.Closer
	now    started
}

const tag = "test/1"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.tree = filepath.Join(w.dir, "tree")
	makeTree(t, w.tree)
	w.build(filepath.Join(w.dir, "store"))
	files := http.FileServer(http.Dir(filepath.Join(w.dir, "store")))
	w.web = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.down.Load() {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		files.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.web.Close)
	w.start()
	return w
}

// start starts keeper and server and holds them.
func (w *world) start() {
	w.t.Helper()
	run := filepath.Join(w.dir, "run")
	w.place = control.PlaceIn(run)
	w.client = control.Client{Socket: w.place.Socket()}
	_ = os.Remove(filepath.Join(string(w.place), "pid"))
	w.keeper = startKeeper(w.t, string(w.place), "run", run, filepath.Join(w.dir, "cache"))
	w.now = waitStart(w.t, string(w.place), 0)
	w.letHold()
}

func (w *world) letHold() {
	w.t.Helper()
	hold, err := w.client.Hold(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	w.hold = hold
	w.t.Cleanup(func() { hold.Close() })
}

// kill kills the server and waits for the next one.
func (w *world) kill() {
	w.t.Helper()
	if err := unix.Kill(w.now.pid, unix.SIGKILL); err != nil {
		w.t.Fatal(err)
	}
	w.now = waitStart(w.t, string(w.place), w.now.start)
}

func (w *world) build(dir string) {
	w.t.Helper()
	src, err := source.Directory(w.tree, source.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer src.Close()
	st, err := store.Create(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	o := build.Defaults()
	o.Tag = tag
	r, err := build.Build(w.t.Context(), src, st, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.image = r.Image
}

func makeTree(t *testing.T, dir string) {
	t.Helper()
	random := rand.NewChaCha8([32]byte{1})
	for i := range 40 {
		sub := filepath.Join(dir, fmt.Sprintf("d%d", i%7), "x")
		if err := os.MkdirAll(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, []int{0, 100, 4096, 5000, 70_000, 300_000, 1 << 20}[i%7]+i)
		_, _ = random.Read(b)
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%d", i)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	big := make([]byte, 12<<20)
	_, _ = random.Read(big)
	clear(big[3<<20 : 5<<20])
	if err := os.WriteFile(filepath.Join(dir, "big"), big, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Symlink("d1/x/f1", filepath.Join(dir, "link")), os.Link(filepath.Join(dir, "big"), filepath.Join(dir, "hard"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// ask is what most tests open.
func (w *world) ask(id string, mode control.Mode) control.Open {
	target := filepath.Join(w.dir, "mnt", id)
	if err := os.MkdirAll(target, 0o700); err != nil {
		w.t.Fatal(err)
	}
	return control.Open{ID: id, Target: target, Image: tag, Origins: []origin.Config{{URL: w.web.URL, Token: "secret"}}, Mode: mode,
		Verify: true, Prefetch: control.PrefetchNone, Kernel: kernelFile}
}

// mount opens an image and mounts it as the driver does. It is given back in the end.
func (w *world) mount(o control.Open) control.Opened {
	w.t.Helper()
	opened, err := w.client.Open(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		_ = unix.Unmount(o.Target, unix.MNT_DETACH)
		if err := w.client.Close(context.Background(), o.ID); err != nil && !fault.Is(err, fault.Unavailable) {
			w.t.Error(err)
		}
	})
	if opened.Mode == control.FUSE {
		return opened
	}
	mnt := mountErofs(w.t, opened)
	defer mnt.Close()
	if err := fsmount.Move(w.t.Context(), mnt, o.Target); err != nil {
		w.t.Fatal(err)
	}
	return opened
}

func (w *world) stats(id string) control.Stats {
	w.t.Helper()
	st, err := w.client.Stats(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// sameTree compares every file below target with the one that the image was built from.
func (w *world) sameTree(target string) {
	w.t.Helper()
	files := 0
	err := filepath.WalkDir(w.tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(w.tree, path)
		there := filepath.Join(target, rel)
		switch {
		case e.Type().IsRegular():
			files++
			want, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			got, err := os.ReadFile(there)
			if err != nil || !bytes.Equal(got, want) {
				return fmt.Errorf("%s differs, or %v", rel, err)
			}
		case e.Type() == fs.ModeSymlink:
			want, _ := os.Readlink(path)
			if got, err := os.Readlink(there); got != want {
				return fmt.Errorf("%s: link to %q, %v", rel, got, err)
			}
		}
		return nil
	})
	if err != nil || files < 40 {
		w.t.Fatalf("%d files: %v", files, err)
	}
}

// exit asks the server to end.
func (w *world) exit(restart bool) error {
	w.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.place.Socket())
	}}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, fmt.Sprintf("http://chunkfs/v1/exit?restart=%t", restart), nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var trouble control.Trouble
	if resp.StatusCode != http.StatusOK && json.NewDecoder(resp.Body).Decode(&trouble) == nil {
		return trouble.Err()
	}
	return nil
}

func pretty(v any) string {
	b, _ := json.MarshalIndent(v, "", " ")
	return string(b)
}
