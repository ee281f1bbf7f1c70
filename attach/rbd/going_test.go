package rbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
)

// faked is a driver for which the kernel has one device of the key mapped, and the order that was written to it is answered by answer.
func faked(t *testing.T, answer func(order string, keep []*os.File) error) (*Driver, mapped) {
	t.Helper()
	d := New(Config{Instance: "test", Dir: t.TempDir()})
	d.sys = t.TempDir()
	m := mapped{number: 3, mark: mark{key: "0123456789abcdef0123456789abcdef", instance: "test", id: 1}}
	device := filepath.Join(d.sys, "bus/rbd/devices/3")
	err := errors.Join(os.MkdirAll(device, 0o700), os.WriteFile(filepath.Join(d.sys, "bus/rbd/remove"), nil, 0o600),
		os.WriteFile(filepath.Join(device, "config_info"), []byte("10.0.0.1:6789 name=admin rbd debian - "+m.mark.String()+"\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	d.write = func(_ context.Context, _ string, data []byte, keep ...*os.File) error {
		return answer(string(data), keep)
	}
	return d, m
}

// TestNobodyJoinsWhatGoes: a device is taken away by force while somebody in this process has its lock, and the helper is left behind.
func TestNobodyJoinsWhatGoes(t *testing.T) {
	var helpers []*os.File // what they have open
	orders := 0
	d, m := faked(t, func(order string, keep []*os.File) error {
		if orders++; order != "3 force" {
			t.Errorf("ordered was %q", order)
		}
		for _, f := range keep {
			fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			helpers = append(helpers, os.NewFile(uintptr(fd), f.Name()))
		}
		return fault.New(fault.Timeout, "%w", &helper.Stuck{PID: 1, What: "write"})
	})
	g, err := d.lock(t.Context(), m.mark.key)
	if err != nil {
		t.Fatal(err)
	}
	h := holder{Pool: "rbd", Image: "debian", RequestTimeout: 5}
	if err := g.hold(t.Context(), 1, h); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.abort(t.Context(), m, h); err != nil {
			t.Errorf("abort: %v", err)
		}
	}
	if orders != 1 {
		t.Errorf("%d helpers wait", orders)
	}
	g.unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if g, err := d.lock(ctx, m.mark.key); !errors.Is(err, errHeld) {
		t.Errorf("the device that goes could be joined: %v", err)
		g.unlock()
	}
	for _, f := range helpers {
		f.Close()
	}
	if g, err = d.lock(t.Context(), m.mark.key); err != nil {
		t.Fatalf("it has gone: %v", err)
	}
	if err := g.release(t.Context(), 1); err != nil {
		t.Error(err)
	}
	g.unlock()
	if left, err := os.ReadDir(d.cfg.Dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestTakeBackKeepsWhatStays: a device that cannot be unmapped stays held, so that Detach finds it.
func TestTakeBackKeepsWhatStays(t *testing.T) {
	answer := error(unix.EBADMSG)
	d, m := faked(t, func(string, []*os.File) error { return answer })
	g, err := d.lock(t.Context(), m.mark.key)
	if err != nil {
		t.Fatal(err)
	}
	defer g.unlock()
	if err := g.hold(t.Context(), 1, holder{}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := d.takeBack(t.Context(), g, 1, &request{key: m.mark.key})
		if has := fmt.Sprint(errors.Is(err, unix.EBADMSG), " ", g.has(1)); has != fmt.Sprint(answer != nil, " ", answer != nil) {
			t.Errorf("answer %v: error and held: %s (%v)", answer, has, err)
		}
		answer = nil
	}
}
