package bind

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// undoing is a file in target.Scratch that says that what is mounted below a recursive bind is being taken down.
func undoing(t mount.Target) string { return filepath.Join(t.Scratch, "undoing") }

// mark makes the directory that marks a recursive bind.
func mark(ctx context.Context, t mount.Target) error {
	return step.Do(ctx, "bind.mark", func(context.Context) error { return os.Mkdir(t.Scratch, 0o700) })
}

func marked(t mount.Target) bool { return exists(t.Scratch) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// makeFile puts an empty file where the chain made a directory: a file can only be mounted on a file.
func makeFile(ctx context.Context, t mount.Target) error {
	return step.Do(ctx, "bind.file", func(context.Context) error {
		if err := remove(t.Dir); err != nil {
			return err
		}
		f, err := os.OpenFile(t.Dir, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// restore makes the place as the chain made it, once nothing is mounted there.
func restore(ctx context.Context, t mount.Target) error {
	if isFile(t.Dir) {
		err := step.Do(ctx, "bind.restore", func(context.Context) error {
			if err := remove(t.Dir); err != nil {
				return err
			}
			return os.Mkdir(t.Dir, 0o700)
		})
		if err != nil {
			return err
		}
	}
	if !marked(t) {
		return nil
	}
	return step.Do(ctx, "bind.unmark", func(context.Context) error {
		return errors.Join(remove(undoing(t)), remove(t.Scratch))
	})
}

func isFile(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Unmount takes it away, for a recursive one with all that is mounted below.
func (*Driver) Unmount(ctx context.Context, a mount.Active, _ bool) error {
	if err := unmount(ctx, a.Target); err != nil {
		return err
	}
	return restore(ctx, a.Target)
}

func unmount(ctx context.Context, t mount.Target) error {
	if !marked(t) {
		return fsmount.Unmount(ctx, t.Dir)
	}
	at, err := fsmount.At(t.Dir)
	if err != nil || at == nil {
		return err
	}
	whole, err := mountinfo.Below(t.Dir)
	if err != nil {
		return err
	}
	// From here on a kill leaves part of it only, which Probe must be able to tell.
	err = step.Do(ctx, "bind.undo", func(context.Context) error { return os.WriteFile(undoing(t), nil, 0o600) })
	if err == nil {
		err = fsmount.UnmountTree(ctx, t.Dir)
	}
	if err == nil {
		return nil
	}
	if left, lerr := mountinfo.Below(t.Dir); lerr == nil && len(left) == len(whole) {
		err = errors.Join(err, remove(undoing(t)))
	}
	return err
}

// Probe asks the kernel what is mounted at target.Dir. A kill may also have left the mark, or the file in place of the directory.
func (*Driver) Probe(_ context.Context, id mount.ID, _ *models.Mount, target mount.Target) (mount.Active, mount.State, error) {
	a := mount.Active{ID: id, Target: target}
	i, err := fsmount.At(target.Dir)
	switch {
	case err != nil:
		return a, mount.Gone, err
	case i != nil && exists(undoing(target)):
		return a, mount.Partial, nil
	case i != nil:
		a.MountID, a.ReadOnly = uint64(i.ID), fsmount.ReadOnly(i)
		return a, mount.Ready, nil
	case marked(target) || isFile(target.Dir):
		return a, mount.Partial, nil
	}
	return a, mount.Gone, nil
}
