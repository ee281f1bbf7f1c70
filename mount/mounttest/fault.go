package mounttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
)

// patience bounds calls that must not block.
const patience = 20 * time.Second

func unmountBusy(t *testing.T, f fixture) {
	a := f.mount(t, 1)
	for name := range f.Files {
		file, err := os.Open(filepath.Join(a.Target.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.wantBusy(t, a, os.Getpid())
		file.Close()
		break
	}
	if _, isFile := f.Files[""]; !isFile {
		sleeper := exec.Command("sleep", "600")
		sleeper.Dir = a.Target.Dir
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		f.wantBusy(t, a, sleeper.Process.Pid)
		_ = sleeper.Process.Kill()
		_ = sleeper.Wait()
	}
	f.unmount(t, a)
	f.wantGone(t, 1)
}

func (f fixture) wantBusy(t *testing.T, a mount.Active, pid int) {
	t.Helper()
	for _, force := range []bool{false, true} {
		err := f.driver.Unmount(t.Context(), a, force)
		if !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d ", pid)) {
			t.Errorf("unmount (force %v): %v (%s), want busy naming pid %d", force, err, fault.KindOf(err), pid)
		}
		f.wantReady(t, a)
	}
}

func cancelledBefore(t *testing.T, f fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a, err := f.driver.Mount(ctx, 1, f.Spec, f.Below, f.target(t, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("mount: %+v, %v", a, err)
	}
	f.wantGone(t, 1)
}

// cancelledAmid ends the context at 40 moments of a Mount, which takes a few milliseconds as a rule.
func cancelledAmid(t *testing.T, f fixture) {
	for n := range mount.ID(40) {
		ctx, cancel := context.WithCancel(t.Context())
		timer := time.AfterFunc(time.Duration(n)*25*time.Microsecond, cancel)
		a, err := f.driver.Mount(ctx, n+1, f.Spec, f.Below, f.target(t, n+1))
		timer.Stop()
		cancel()
		if err == nil {
			f.unmount(t, a)
		} else if !errors.Is(err, context.Canceled) {
			t.Errorf("mount: %v", err)
		}
		f.wantGone(t, n+1)
	}
}

func hostile(t *testing.T, f fixture) {
	if f.Hostile == nil {
		return
	}
	for n, h := range f.Hostile(t) {
		t.Run(h.What, func(t *testing.T) {
			id := mount.ID(n + 1)
			target := f.target(t, id)
			done := make(chan error, 1)
			go func() {
				_, err := f.driver.Mount(t.Context(), id, h.Spec, h.Below, target)
				done <- err
			}()
			select {
			case err := <-done:
				if !fault.Is(err, h.Kind) || !strings.Contains(err.Error(), h.Says) {
					t.Errorf("mount: %v (%s)\nwant %s that says %q", err, fault.KindOf(err), h.Kind, h.Says)
				}
			case <-time.After(patience):
				t.Fatal("mount hangs")
			}
			f.wantGone(t, id)
		})
	}
}
