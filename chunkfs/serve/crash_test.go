package serve

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// TestServerKilledUnderImages kills the whole server while files of images in the modes lazy and fuse are read, fetched and verified.
func TestServerKilledUnderImages(t *testing.T) {
	w := newWorld(t)
	lazily, pure := w.ask("1", control.Lazy), w.ask("2", control.FUSE)
	w.mount(lazily)
	w.mount(pure)
	var stop atomic.Bool
	var rounds, longest atomic.Int64
	var wg sync.WaitGroup
	for _, dir := range []string{lazily.Target, lazily.Target, pure.Target, pure.Target} {
		wg.Go(func() {
			for !stop.Load() && !t.Failed() {
				w.readSome(dir, &longest)
				rounds.Add(1)
			}
		})
	}
	for range 12 {
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // not to wait for anything: to kill at any moment
		w.kill()
	}
	stop.Store(true)
	wg.Wait()
	w.sameTree(lazily.Target)
	w.sameTree(pure.Target)
	t.Logf("figure: chunkfs server killed 12 times under %d reads of files: 0 wrong, 0 errors, longest stall %v",
		rounds.Load(), time.Duration(longest.Load()).Round(time.Millisecond))
	st := w.stats("1")
	if st.Errors != 0 || st.Corrupt != 0 {
		t.Errorf("stats %s", pretty(st))
	}
	if all, err := w.client.List(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("list %v, %v", all, err)
	}
}

// readSome reads one file, after having the kernel forget it.
func (w *world) readSome(dir string, longest *atomic.Int64) {
	names := []string{"big", "hard", "d6/x/f6", "d6/x/f13", "d5/x/f5", "d3/x/f3", "d2/x/f2", "d1/x/f1"}
	name := names[rand.IntN(len(names))]
	want, err := os.ReadFile(filepath.Join(w.tree, name))
	if err != nil {
		w.t.Error(err)
		return
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		w.t.Error(err)
		return
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	got := make([]byte, len(want))
	for off := 0; off < len(got); {
		began := time.Now()
		n, err := f.ReadAt(got[off:min(len(got), off+64<<10)], int64(off))
		took := int64(time.Since(began))
		for was := longest.Load(); took > was && !longest.CompareAndSwap(was, took); was = longest.Load() {
		}
		if err != nil {
			w.t.Errorf("%s at %d: %v", name, off, err)
			return
		}
		off += n
	}
	if !bytes.Equal(got, want) {
		w.t.Errorf("%s in %s differs", name, dir)
	}
}

// TestRestartWithoutOrigin: what the cache has is served again at once, and what it has not waits for an origin.
func TestRestartWithoutOrigin(t *testing.T) {
	w := newWorld(t)
	o := w.ask("1", control.Lazy)
	w.mount(o)
	if _, err := os.ReadFile(filepath.Join(o.Target, "d6/x/f6")); err != nil {
		t.Fatal(err)
	}
	w.down.Store(true)
	w.kill()
	if _, err := readUncached(filepath.Join(o.Target, "d6/x/f6")); err != nil {
		t.Fatalf("what is in the cache: %v", err)
	}
	read := make(chan error, 1)
	go func() { _, err := os.ReadFile(filepath.Join(o.Target, "big")); read <- err }()
	select {
	case err := <-read:
		t.Fatalf("read without an origin: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if st := w.stats("1"); st.Complete {
		t.Errorf("stats %s", pretty(st))
	}
	w.down.Store(false)
	select {
	case err := <-read:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the reader does not go on when the origin is back")
	}
	w.sameTree(o.Target)
}

// TestRestartWithoutOriginOrMetadata: the server answers although it cannot take up an image before an origin is back, and keeps what the
// kernel reads by itself.
func TestRestartWithoutOriginOrMetadata(t *testing.T) {
	w := newWorld(t)
	direct, lazily := w.ask("1", control.Direct), w.ask("2", control.Lazy)
	w.mount(direct)
	w.mount(lazily)
	at := filepath.Join(w.dir, "cache", "v1", "images", strings.Replace(w.image.String(), ":", "-", 1))
	if err := os.WriteFile(filepath.Join(at, "metadata.sum"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.down.Store(true)
	w.kill()
	began := time.Now()
	for w.client.Ping(t.Context()) != nil {
		if time.Since(began) > 15*time.Second {
			t.Fatal("the server does not answer while no origin does")
		}
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := os.Stat(filepath.Join(at, "direct")); err != nil {
		t.Errorf("what the kernel reads is not kept any more: %v", err)
	}
	w.sameTree(direct.Target)
	w.down.Store(false)
	w.sameTree(lazily.Target)
	for _, err := w.client.Stats(t.Context(), "1"); err != nil; _, err = w.client.Stats(t.Context(), "1") {
		if time.Since(began) > 15*time.Second {
			t.Fatalf("the mount is not taken up although an origin is back: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// readUncached reads a file after having the kernel forget what it has of it.
func readUncached(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, err
	}
	return io.ReadAll(f)
}

// TestKilledReader: a reader that waits for an origin that is down can be killed.
func TestKilledReader(t *testing.T) {
	w := newWorld(t)
	for _, mode := range []control.Mode{control.Lazy, control.FUSE} {
		o := w.ask(string(mode), mode)
		w.mount(o)
		w.down.Store(true)
		args := []string{"if=" + filepath.Join(o.Target, "big"), "bs=1M", "of=/dev/null"}
		if mode == control.FUSE {
			args = append(args, "iflag=direct")
		}
		cmd := exec.Command("dd", args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // it is reading by then; if not, the test is weaker and not wrong
		_ = cmd.Process.Kill()
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Errorf("mode %s: the reader cannot be killed", mode)
		}
		w.down.Store(false)
		<-ended
	}
}

// TestKeeperKilled: the server goes on without its keeper, and says so.
func TestKeeperKilled(t *testing.T) {
	w := newWorld(t)
	t.Cleanup(func() {
		w.hold.Close()
		w.awaitServerGone()
	})
	o := w.ask("1", control.Lazy)
	w.mount(o)
	if err := w.keeper.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.sameTree(o.Target)
	for deadline := time.Now().Add(5 * time.Second); w.stats("1").Kept; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the server thinks that it has a keeper")
		}
	}
	pure := w.ask("2", control.FUSE)
	w.mount(pure)
	w.sameTree(pure.Target)
}

// awaitServerGone waits until the server that has outlived its keeper has ended, too: it has inherited the lock.
func (w *world) awaitServerGone() {
	f, err := os.Open(w.place.KeeperLock())
	if err != nil {
		w.t.Error(err)
		return
	}
	defer f.Close()
	for deadline := time.Now().Add(10 * time.Second); unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Error("the server stays although nothing is left to do")
			_ = unix.Kill(w.now.pid, unix.SIGKILL)
		}
	}
}

// TestHalfDone has a server find what its predecessor did not finish.
func TestHalfDone(t *testing.T) {
	w := newWorld(t)
	for _, mode := range []control.Mode{control.Lazy, control.FUSE} {
		o := w.ask(string(mode), mode)
		if _, err := w.client.Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		w.unfinish(o.ID)
	}
	w.kill()
	if all, err := w.client.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("list %v, %v", all, err)
	}
	if left, err := os.ReadDir(w.place.Mounts()); err != nil || len(left) != 0 {
		t.Errorf("records left: %v, %v", left, err)
	}
	if ours(filepath.Join(w.dir, "mnt", "fuse")) {
		t.Error("the half done mount is still there")
	}
	if err := w.client.Close(t.Context(), "fuse"); err != nil && !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	o := w.ask("fuse", control.FUSE)
	w.mount(o)
	w.sameTree(o.Target)
}

// unfinish makes the record of a mount look as if its server had died before the end.
func (w *world) unfinish(id string) {
	w.t.Helper()
	b, err := os.ReadFile(w.place.Mount(id))
	r := new(record)
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	r.Done = false
	if err == nil {
		b, err = json.Marshal(r)
	}
	if err == nil {
		err = os.WriteFile(w.place.Mount(id), b, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestRestartedOnPurpose: an update ends the server, and readers notice nothing.
func TestRestartedOnPurpose(t *testing.T) {
	w := newWorld(t)
	o := w.ask("1", control.Lazy)
	w.mount(o)
	if err := w.exit(true); err != nil {
		t.Fatal(err)
	}
	w.sameTree(o.Target)
	w.now = waitStart(t, string(w.place), w.now.start)
	w.letHold()
	if err := w.exit(false); !fault.Is(err, fault.Busy) {
		t.Errorf("exit with a mount: %v", err)
	}
}
