package serve

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// killsEnv sets how often TestKilled kills; `make crash` does it more often than the ordinary run.
const killsEnv = "WINDLASS_CHUNKFS_KILLS"

// TestKilled kills the server under readers of a device file: direct, buffered, mapped. Nobody gets an error or a wrong byte, or waits for
// long, and nothing stays behind.
func TestKilled(t *testing.T) {
	kills := 30
	if n, err := strconv.Atoi(os.Getenv(killsEnv)); err == nil {
		kills = n
	}
	dir := t.TempDir()
	startKeeper(t, dir, "memory", dir)
	began := waitStart(t, dir, 0)
	r := &readers{path: filepath.Join(dir, "data", memoryName)}
	r.start(t)
	for i := range kills {
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond) // not to wait for anything: to kill at any moment
		if err := unix.Kill(began.pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		began = waitStart(t, dir, began.start)
		if t.Failed() {
			t.Fatalf("after %d kills", i+1)
		}
	}
	r.finish(t)
	t.Logf("figure: chunkfs device file: %d kills under %d reads (%d MiB): 0 wrong, 0 errors, longest stall %v",
		kills, r.reads.Load(), r.bytes.Load()>>20, time.Duration(r.longest.Load()).Round(time.Millisecond))
}

// readers read a device file of pattern in every way there is.
type readers struct {
	path                  string
	stop                  atomic.Bool
	wg                    sync.WaitGroup
	reads, bytes, longest atomic.Int64
}

func (r *readers) start(t *testing.T) {
	for _, read := range []func(*testing.T){r.direct, r.direct, r.buffered, r.sequential, r.mapped} {
		r.wg.Go(func() { read(t) })
	}
}

// finish has them end, which they do soon or are stuck.
func (r *readers) finish(t *testing.T) {
	t.Helper()
	r.stop.Store(true)
	done := make(chan struct{})
	go func() { r.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("readers are stuck")
	}
}

// each calls read, which reads at an offset, until it is time to end.
func (r *readers) each(t *testing.T, read func() (off int64, b []byte, err error)) {
	for !r.stop.Load() {
		began := time.Now()
		off, b, err := read()
		took := int64(time.Since(began))
		for was := r.longest.Load(); took > was && !r.longest.CompareAndSwap(was, took); was = r.longest.Load() {
		}
		r.reads.Add(1)
		r.bytes.Add(int64(len(b)))
		if err != nil || !samePattern(b, off) {
			t.Errorf("%d bytes at %d: wrong, or %v", len(b), off, err)
			return
		}
	}
}

func (r *readers) open(t *testing.T, flags int) *os.File {
	f, err := os.OpenFile(r.path, os.O_RDONLY|flags, 0)
	if err != nil {
		t.Error(err)
		return nil
	}
	return f
}

func (r *readers) direct(t *testing.T) {
	f := r.open(t, unix.O_DIRECT)
	if f == nil {
		return
	}
	defer f.Close()
	buf := aligned(1 << 20)
	r.each(t, func() (int64, []byte, error) {
		n := 4096 << rand.IntN(9)
		off := rand.Int64N((memorySize-int64(n))/4096+1) * 4096
		n, err := f.ReadAt(buf[:n], off)
		return off, buf[:n], err
	})
}

func (r *readers) buffered(t *testing.T) {
	f := r.open(t, 0)
	if f == nil {
		return
	}
	defer f.Close()
	buf := make([]byte, 100_000)
	r.each(t, func() (int64, []byte, error) {
		n := 1 + rand.IntN(len(buf))
		off := rand.Int64N(memorySize - int64(n))
		_ = unix.Fadvise(int(f.Fd()), off, int64(n), unix.FADV_DONTNEED)
		n, err := f.ReadAt(buf[:n], off)
		return off, buf[:n], err
	})
}

func (r *readers) sequential(t *testing.T) {
	f := r.open(t, 0)
	if f == nil {
		return
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	var next int64
	r.each(t, func() (int64, []byte, error) {
		off := next
		if next += int64(len(buf)); next == memorySize {
			next = 0
			_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		}
		n, err := f.ReadAt(buf, off)
		return off, buf[:n], err
	})
}

func (r *readers) mapped(t *testing.T) {
	f := r.open(t, 0)
	if f == nil {
		return
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, memorySize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = unix.Munmap(m) }()
	buf := make([]byte, 64<<10)
	r.each(t, func() (int64, []byte, error) {
		n := 1 + rand.IntN(len(buf))
		off := rand.Int64N(memorySize - int64(n))
		page := off / 4096 * 4096
		_ = unix.Madvise(m[page:off+int64(n)], unix.MADV_DONTNEED)
		_ = unix.Fadvise(int(f.Fd()), page, int64(n), unix.FADV_DONTNEED)
		return off, buf[:n], copyMapped(buf[:n], m[off:])
	})
}

// copyMapped is copy of memory that may not be there: a failed page fault is an error.
func copyMapped(dst, src []byte) (err error) {
	debug.SetPanicOnFault(true)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("page fault: %v", p)
		}
	}()
	copy(dst, src)
	return nil
}

func aligned(n int) []byte {
	b := make([]byte, n+4096)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & 4095
	return b[skip:][:n]
}

// startKeeper starts a keeper with this binary in a role as its program; place is the server's. In the end the data file system is
// unmounted and both have gone.
func startKeeper(t *testing.T, place, role string, args ...string) *exec.Cmd {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(place, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], append([]string{"--lock", filepath.Join(place, "keeper.lock"), "--log", filepath.Join(place, "server.log"), "--", os.Args[0]}, args...)...)
	cmd.Env = append(os.Environ(), roleEnv+"=keeper", roleEnv+"_PROGRAM="+role)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(place, "server.log"))
			t.Logf("the log:\n%s", log)
		}
		if err := unix.Unmount(filepath.Join(place, "data"), unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if err != nil && !t.Failed() && err.Error() != "signal: killed" { // which a test does
				t.Errorf("the keeper: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("keeper and server stay although nothing is left to do")
			killGroup(cmd.Process.Pid)
			<-ended
		}
	})
	return cmd
}

// killGroup kills keeper and server, which are a session of their own.
func killGroup(keeper int) { _ = unix.Kill(-keeper, unix.SIGKILL) }

// started is what a server says when it serves.
type started struct{ pid, start int }

// waitStart waits for a start after one.
func waitStart(t *testing.T, dir string, after int) started {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(time.Millisecond); time.Now().Before(deadline); <-tick.C {
		var s started
		text, _ := os.ReadFile(filepath.Join(dir, "pid"))
		if _, err := fmt.Sscan(string(text), &s.pid, &s.start); err == nil && s.start > after {
			return s
		}
	}
	t.Fatalf("no server came after start %d", after)
	return started{}
}
