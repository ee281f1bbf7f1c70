package helper_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// TestWhatCannotBeKilledIsLeft holds each call in a wait that no signal ends: its request is with a FUSE server.
func TestWhatCannotBeKilledIsLeft(t *testing.T) {
	opOf := map[string]string{"ask the file system at ": helper.OpStatfs, "write what was changed at ": helper.OpSync, "unmount ": helper.OpUnmount,
		"write to ": helper.OpWrite, "mount overlay from test": helper.OpCreate, "open ": helper.OpOpen}
	for what, call := range map[string]func(ctx context.Context, r *helper.Runner, h *helpertest.Hang) error{
		"ask the file system at ": func(ctx context.Context, r *helper.Runner, h *helpertest.Hang) error { return r.Statfs(ctx, h.Dir) },
		"write what was changed at ": func(ctx context.Context, r *helper.Runner, h *helpertest.Hang) error {
			return r.Sync(ctx, h.Path)
		},
		"unmount ": func(ctx context.Context, r *helper.Runner, h *helpertest.Hang) error {
			return r.Unmount(ctx, h.Path, 0)
		},
		"write to ": func(ctx context.Context, r *helper.Runner, h *helpertest.Hang) error {
			return r.Write(ctx, h.Path, nil)
		},
		"open ": func(ctx context.Context, r *helper.Runner, h *helpertest.Hang) error {
			_, err := r.Open(ctx, h.Path, unix.O_RDONLY)
			return err
		},
		"mount overlay from test": func(ctx context.Context, r *helper.Runner, h *helpertest.Hang) error {
			_, err := r.Create(ctx, "overlay", overlay(h.Path), 0)
			return err
		},
	} {
		t.Run(strings.TrimSpace(what), func(t *testing.T) {
			h, r := helpertest.NewHang(t), helper.New(shim)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			go func() { <-h.Asked; cancel() }()
			err := call(ctx, r, h)
			var stuck *helper.Stuck
			if !errors.As(err, &stuck) || !fault.Is(err, fault.Timeout) || !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v (%s)", err, fault.KindOf(err))
			}
			if !strings.HasPrefix(err.Error(), "stuck: "+what) || !strings.Contains(err.Error(), " has not come back in ") {
				t.Errorf("it says %q", err)
			}
			left := r.Left()
			if len(left) != 1 || left[0].PID != stuck.PID || left[0].What != stuck.What || time.Since(left[0].Since) > time.Minute {
				t.Fatalf("left are %+v", left)
			}
			if op := opOf[what]; left[0].Op != op || op != helper.OpCreate && left[0].Path != h.Path && left[0].Path != h.Dir {
				t.Errorf("it does %s at %q", left[0].Op, left[0].Path)
			}
			if stuck.Where == "" || left[0].Where != stuck.Where {
				t.Errorf("it waits in %q, later in %q", stuck.Where, left[0].Where)
			}
			if err := unix.Kill(stuck.PID, 0); err != nil {
				t.Errorf("the helper is not there: %v", err)
			}
			h.Answer()
			reaped(t, r, stuck.PID)
		})
	}
}

// reaped waits until the helper has gone from the list and from the system.
func reaped(t *testing.T, r *helper.Runner, pid int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(r.Left()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("left are %+v", r.Left())
		}
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the helper is there: %v", err)
	}
}

// TestKeepOutlivesTheCall: what a helper that was left behind holds stays locked until it has gone.
func TestKeepOutlivesTheCall(t *testing.T) {
	h, r := helpertest.NewHang(t), helper.New(shim)
	path := filepath.Join(t.TempDir(), "lock")
	lock := open(t, path)
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() { <-h.Asked; cancel() }()
	var stuck *helper.Stuck
	if err := r.Write(ctx, h.Path, nil, helper.Keep(lock)); !errors.As(err, &stuck) {
		t.Fatal(err)
	}
	lock.Close()
	again := open(t, path)
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("the lock is not held: %v", err)
	}
	h.Answer()
	reaped(t, r, stuck.PID)
	if err := unix.Flock(int(again.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("the lock is held though the helper has gone: %v", err)
	}
}

// TestAbort: what waits fails, and the file system stays mounted though nobody holds it.
func TestAbort(t *testing.T) {
	h, r := helpertest.NewHang(t), helper.New(shim)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() { <-h.Asked; cancel() }()
	var stuck *helper.Stuck
	if err := r.Statfs(ctx, h.Dir); !errors.As(err, &stuck) {
		t.Fatal(err)
	}
	if err := r.Abort(t.Context(), h.Dir, 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	reaped(t, r, stuck.PID)
	if mounted, err := mountinfo.IsMountpoint(h.Dir); err != nil || !mounted {
		t.Errorf("it is not mounted any more: %v", err)
	}
	if err := r.Abort(t.Context(), t.TempDir(), time.Minute); !errors.Is(err, unix.EINVAL) {
		t.Errorf("of what is no mountpoint: %v", err)
	}
}

// TestClose: nothing holds the mount when it comes back.
func TestClose(t *testing.T) {
	r, dir := helper.New(shim), t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	mnt, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); !errors.Is(err, unix.EBUSY) {
		t.Fatalf("it does not hold the mount: %v", err)
	}
	if err := r.Close(t.Context(), mnt); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Error(err)
	}
	if err := mnt.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("it is open here: %v", err)
	}
}

// TestCloseWithoutAHelper: one more is tried; when there is none, it is not the daemon that shuts the file system down.
func TestCloseWithoutAHelper(t *testing.T) {
	for what, c := range map[string]struct {
		shim  string
		ended bool
		err   error
		left  error
	}{
		"no such program":          {"/nonexistent", false, helper.ErrStart, unix.EBUSY},
		"a context that has ended": {shim, true, nil, nil},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
			mnt, err := os.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.ended {
				cancel()
			}
			r := helper.New(c.shim)
			err = r.Close(ctx, mnt)
			if !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), "stays open") {
				t.Errorf("close: %v", err)
			}
			mnt = nil
			runtime.GC() // which closes files that nobody has
			runtime.GC()
			if err := unix.Unmount(dir, 0); !errors.Is(err, c.left) {
				t.Errorf("unmount: %v, want %v", err, c.left)
			}
			runtime.KeepAlive(r)
		})
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
