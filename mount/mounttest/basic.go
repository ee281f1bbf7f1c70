package mounttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/mount"
)

func usable(t *testing.T, f fixture) {
	if err := f.driver.Validate(f.Spec); err != nil {
		t.Errorf("validate: %v", err)
	}
	f.wantGone(t, 1)
	a := f.mount(t, 1)
	if id, err := mountinfo.ID(a.Target.Dir); err != nil || a.MountID != id || a.ID != 1 || a.Target != f.target(t, 1) {
		t.Errorf("mounted is %+v; the kernel says mount id %d, %v", a, id, err)
	}
	if mounted, err := mountinfo.IsMountpoint(a.Target.Dir); err != nil || !mounted {
		t.Errorf("it is no mountpoint: %v", err)
	}
	if a.ReadOnly == f.Writable {
		t.Errorf("read_only is %v", a.ReadOnly)
	}
	f.wantReady(t, a)
	err := f.write(a)
	if f.Writable && err != nil {
		t.Errorf("write: %v", err)
	}
	if !f.Writable && !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want %v", err, unix.EROFS)
	}
	f.unmount(t, a)
	f.wantGone(t, 1)
}

// write writes a file of the mount, or the mount when it is a file.
func (f fixture) write(a mount.Active) error {
	path := a.Target.Dir
	if _, file := f.Files[""]; !file {
		path = filepath.Join(path, "written")
	}
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	return w.Close()
}

func mountTwice(t *testing.T, f fixture) {
	one := f.mount(t, 1)
	if f.Single {
		if a, err := f.driver.Mount(t.Context(), 2, f.Spec, f.Below, f.target(t, 2)); !fault.Is(err, fault.Busy) {
			t.Errorf("mount 2: %+v, %v; want busy", a, err)
		}
		f.wantGone(t, 2)
		f.wantReady(t, one)
		return
	}
	two := f.mount(t, 2)
	if one.MountID == two.MountID {
		t.Errorf("both have mount id %d", one.MountID)
	}
	f.unmount(t, one)
	f.wantReady(t, two)
	f.wantGone(t, 1)
}

func unmountTwice(t *testing.T, f fixture) {
	a := f.mount(t, 1)
	for range 2 {
		f.unmount(t, a)
		f.wantGone(t, 1)
	}
	// Nothing was ever mounted; then not even the mountpoint is there.
	f.unmount(t, mount.Active{ID: 99, Target: f.target(t, 99)})
	target := f.target(t, 98)
	if err := os.Remove(target.Dir); err != nil {
		t.Fatal(err)
	}
	f.unmount(t, mount.Active{ID: 98, Target: target})
	if _, err := os.Lstat(target.Dir); err == nil {
		t.Error("unmount has made the mountpoint")
	}
	// Only ID and target are known, as after a crash.
	again := f.mount(t, 2)
	f.unmount(t, mount.Active{ID: 2, Target: again.Target})
	f.wantGone(t, 2)
	// The same id can be used anew.
	f.mount(t, 1)
}

func placeTaken(t *testing.T, f fixture) {
	target := f.target(t, 1)
	if err := unix.Mount("tmpfs", target.Dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target.Dir, unix.MNT_DETACH) })
	id, err := mountinfo.ID(target.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := f.driver.Mount(t.Context(), 1, f.Spec, f.Below, target); !fault.Is(err, fault.BadState) {
		t.Errorf("mount: %+v, %v; want bad_state", a, err)
	}
	if now, err := mountinfo.ID(target.Dir); err != nil || now != id {
		t.Errorf("mount id %d is there, %v; it was %d", now, err, id)
	}
	if err := unix.Unmount(target.Dir, 0); err != nil {
		t.Error(err)
	}
	f.wantGone(t, 1)

	if err := os.Mkdir(target.Scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	if a, err := f.driver.Mount(t.Context(), 1, f.Spec, f.Below, target); !fault.Is(err, fault.BadState) {
		t.Errorf("mount over a scratch directory that is left: %+v, %v; want bad_state", a, err)
	}
	if err := os.Remove(target.Scratch); err != nil {
		t.Error(err)
	}
	f.wantGone(t, 1)
}

func many(t *testing.T, f fixture) {
	if f.Single {
		return
	}
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for n := range mount.ID(8) {
		target := f.target(t, n+1)
		wg.Go(func() {
			for range 5 {
				a, err := f.driver.Mount(t.Context(), n+1, f.Spec, f.Below, target)
				if err != nil {
					errs <- fmt.Errorf("mount %d: %w", n+1, err)
					return
				}
				if err := f.driver.Unmount(t.Context(), a, false); err != nil {
					errs <- fmt.Errorf("unmount %d: %w", n+1, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	for n := range mount.ID(8) {
		f.wantGone(t, n+1)
	}
}
