package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Unmount takes the overlay away, then its tmpfs. When somebody is in the tmpfs the overlay stays too.
func (*Driver) Unmount(ctx context.Context, a mount.Active, _ bool) error {
	if err := fsmount.CheckIdle(ctx, a.Target.Scratch); err != nil {
		return err
	}
	if err := fsmount.Unmount(ctx, a.Target.Dir); err != nil {
		return err
	}
	err := clean(ctx, a.Target)
	if fault.Is(err, fault.Busy) { // the overlay has gone, so this is no "busy, and as before"
		return fault.New(fault.Unavailable, "the overlay is unmounted, its tmpfs is not yet: %w", err)
	}
	return err
}

// clean takes away what is at target.Scratch. It removes empty directories only: what was written goes with the tmpfs.
func clean(ctx context.Context, t mount.Target) error {
	if err := fsmount.Unmount(ctx, t.Scratch); err != nil {
		return err
	}
	if !exists(t.Scratch) {
		return nil
	}
	return step.Do(ctx, "overlay.clean", func(context.Context) error {
		for _, path := range []string{filepath.Join(t.Scratch, emptyName), t.Scratch} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove the scratch directory: %w", err)
			}
		}
		return nil
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Probe asks the kernel what is mounted at target.Dir. The overlay goes on without its tmpfs at target.Scratch, if somebody has
// unmounted that, so only the overlay counts.
func (*Driver) Probe(_ context.Context, id mount.ID, _ *models.Mount, target mount.Target) (mount.Active, mount.State, error) {
	i, err := fsmount.At(target.Dir)
	switch {
	case err != nil:
		return mount.Active{}, mount.Gone, err
	case i != nil && i.FSType == "overlay":
		a, err := active(id, target)
		return a, mount.Ready, err
	case i != nil || exists(target.Scratch):
		return mount.Active{ID: id, Target: target}, mount.Partial, nil
	}
	return mount.Active{ID: id, Target: target}, mount.Gone, nil
}

// active describes the overlay at target.Dir.
func active(id mount.ID, target mount.Target) (mount.Active, error) {
	i, err := fsmount.At(target.Dir)
	if err != nil {
		return mount.Active{}, err
	}
	if i == nil {
		return mount.Active{}, fault.New(fault.BadState, "%s was unmounted by somebody else", target.Dir)
	}
	a := mount.Active{ID: id, Target: target, MountID: uint64(i.ID), ReadOnly: fsmount.ReadOnly(i)}
	if upper := option(i, "upperdir"); upper != "" {
		a.Upperdir, a.Workdir = existing(upper), existing(option(i, "workdir"))
	}
	return a, nil
}
