package attachtest

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// patience bounds calls that must not block.
const patience = 10 * time.Second

func detachBusy(t *testing.T, f fixture) {
	command(t, "mkfs.ext4", "-q", "-F", f.image)
	spec := f.Spec(t, f.image)
	dev := f.attach(t, 1, spec)
	dir := t.TempDir()
	if err := unix.Mount(dev.Path, dir, "ext4", unix.MS_RDONLY, ""); err != nil {
		t.Fatalf("mount %s: %v", dev.Path, err)
	}
	mounted := true
	unmount := func() {
		if mounted {
			mounted = false
			if err := unix.Unmount(dir, 0); err != nil {
				t.Errorf("unmount: %v", err)
			}
		}
	}
	t.Cleanup(unmount)
	for _, force := range []bool{false, true} {
		err := f.driver.Detach(t.Context(), dev, force)
		if f.Passive && err != nil {
			t.Errorf("detach (force %v): %v", force, err)
		}
		if !f.Passive && (!fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), dir)) {
			t.Errorf("detach (force %v): %v, want busy naming the mount at %s", force, err, dir)
		}
		if _, err := os.Stat(dir + "/lost+found"); err != nil {
			t.Errorf("the file system has gone: %v", err)
		}
		if found, state := f.probe(t, 1, spec); state != attach.Ready || found != dev {
			t.Errorf("probe: state %d, %+v; attached was %+v", state, found, dev)
		}
	}
	unmount()
	f.detach(t, dev)
	f.wantGone(t, 1, spec)
}

func cancelledBefore(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if dev, err := f.driver.Attach(ctx, 1, spec, root()); !errors.Is(err, context.Canceled) {
		t.Errorf("attach: %+v, %v", dev, err)
	}
	f.wantGone(t, 1, spec)
}

// cancelledAmid ends the context at 40 moments of an Attach.
func cancelledAmid(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	for n := range attach.ID(40) {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(n)*f.pause()/2, cancel)
		dev, err := f.driver.Attach(ctx, n+1, spec, root())
		timer.Stop()
		cancel()
		if err == nil {
			f.detach(t, dev)
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("attach: %v", err)
		}
		f.wantGone(t, n+1, spec)
	}
}

func hostile(t *testing.T, f fixture) {
	for _, h := range f.Hostile(t) {
		t.Run(h.What, func(t *testing.T) {
			base := h.Base
			if base.Dir == "" {
				base = root()
			}
			done := make(chan error, 1)
			go func() {
				_, err := f.driver.Attach(t.Context(), 1, h.Spec, base)
				done <- err
			}()
			select {
			case err := <-done:
				if !fault.Is(err, h.Kind) || !strings.Contains(err.Error(), h.Says) {
					t.Errorf("attach: %v (%s)\nwant %s that says %q", err, fault.KindOf(err), h.Kind, h.Says)
				}
			case <-time.After(patience):
				t.Fatal("attach hangs")
			}
			if left, err := f.driver.List(t.Context()); err != nil || len(left) != 0 {
				t.Errorf("left: %+v, %v", left, err)
			}
		})
	}
}
