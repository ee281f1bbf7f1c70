package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// openUpper makes and opens the place for what is written.
func (d *Driver) openUpper(ctx context.Context, spec *models.Mount, below []mount.Layer, target mount.Target, s *stack, u *undo.Stack) error {
	part, up := spec.Overlay, spec.Overlay.Upper
	switch {
	case readOnly(part):
		return s.noUpper(ctx, target)
	case up != nil && up.Path != "":
		return d.keptUpper(ctx, "overlay.upper.path", up.Path, s, u)
	case up != nil && up.Mount != nil:
		n := slices.IndexFunc(below, func(l mount.Layer) bool { return l.Role == mount.RoleUpper })
		if n < 0 {
			return fault.New(fault.Invalid, "overlay.upper.mount: there is no such mount")
		}
		if below[n].ReadOnly {
			return fault.New(fault.Invalid, "overlay.upper.mount: mount %d is read-only, so nothing can be written to it", below[n].ID)
		}
		return d.keptUpper(ctx, "overlay.upper.mount", below[n].Path, s, u)
	}
	if up == nil {
		up = &models.OverlayUpper{}
	}
	return s.ownUpper(ctx, up, target)
}

// noUpper adds an empty layer when there is one only: overlayfs wants two when there is no upper.
func (s *stack) noUpper(ctx context.Context, target mount.Target) error {
	if len(s.lower) > 1 {
		return nil
	}
	path := filepath.Join(target.Scratch, emptyName)
	err := step.Do(ctx, "overlay.scratch", func(context.Context) error {
		if err := os.Mkdir(target.Scratch, 0o700); err != nil {
			return err
		}
		return os.Mkdir(path, 0o755)
	})
	if err != nil {
		return fmt.Errorf("make an empty layer: %w", err)
	}
	f, err := openDir(path, unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	s.lower = append(s.lower, f)
	return nil
}

// ownUpper mounts a tmpfs at target.Scratch.
func (s *stack) ownUpper(ctx context.Context, up *models.OverlayUpper, target mount.Target) error {
	err := step.Do(ctx, "overlay.scratch", func(context.Context) error { return os.Mkdir(target.Scratch, 0o700) })
	if err != nil {
		return fmt.Errorf("make the scratch directory: %w", err)
	}
	opts := []fsmount.Option{{Key: "source", Value: "tmpfs"}, {Key: "mode", Value: "0700"}}
	if up.Size != 0 { // else the kernel takes half of the memory
		opts = append(opts, fsmount.Option{Key: "size", Value: strconv.FormatInt(up.Size, 10)})
	}
	if up.Inodes != 0 {
		opts = append(opts, fsmount.Option{Key: "nr_inodes", Value: strconv.FormatInt(up.Inodes, 10)})
	}
	mnt, err := fsmount.Create(ctx, "tmpfs", opts, 0)
	if err != nil {
		return err
	}
	defer mnt.Close()
	if err := fsmount.Move(ctx, mnt, target.Scratch); err != nil {
		return err
	}
	if s.base, err = openDir(target.Scratch, unix.O_NOFOLLOW); err != nil {
		return err
	}
	_, err = s.makeDirs(ctx)
	return err
}

// keptUpper uses a directory that is there and stays there.
func (d *Driver) keptUpper(ctx context.Context, field, path string, s *stack, u *undo.Stack) (err error) {
	s.base, err = openDir(path, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.Hintf(fault.New(fault.NotFound, "%s: there is no %s: %w", field, path, err), "make the directory first")
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return fault.New(fault.Invalid, "%s %s is not a directory: %w", field, path, err)
	case err != nil:
		return fmt.Errorf("%s: %w", field, err)
	}
	if s.release, err = d.take(s.base); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	made, err := s.makeDirs(ctx)
	u.Push("remove what was made in "+path, func(context.Context) error { return unmake(path, made) })
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if err := checkUnused(s.upper); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}

// unmake removes the directories that were made in a kept upper, when they are still empty. overlayfs makes one more in work.
func unmake(path string, made []string) error {
	dir, err := openDir(path, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range slices.Backward(made) {
		_ = unix.Unlinkat(int(dir.Fd()), filepath.Join(name, workName), unix.AT_REMOVEDIR)
		_ = unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR)
	}
	return nil
}

// makeDirs makes and opens the directories upper and work in s.base, to which a user may be able to write: neither may be a link. It
// says which of them it made.
func (s *stack) makeDirs(ctx context.Context) (made []string, err error) {
	err = step.Do(ctx, "overlay.dirs", func(context.Context) error {
		isNew, err := s.makeUpper()
		if isNew {
			made = append(made, upperName)
		}
		if err != nil {
			return err
		}
		if isNew, s.work, err = s.makeDir(workName, workName); isNew {
			made = append(made, workName)
		}
		return err
	})
	return made, err
}

// newUpperName is where a new upper is until it has its owner and mode: one called upper is whole, also after a crash.
const newUpperName = "upper.new"

// makeUpper makes and opens upper, or opens the one that is there.
func (s *stack) makeUpper() (isNew bool, err error) {
	path := filepath.Join(s.base.Name(), upperName)
	var st unix.Stat_t
	err = unix.Fstatat(int(s.base.Fd()), upperName, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		if _, s.upper, err = s.makeDir(upperName, upperName); err != nil {
			return false, err
		}
		return false, s.checkOwner()
	}
	if !errors.Is(err, unix.ENOENT) {
		return false, upperFault(err, "look at %s", path)
	}
	if _, s.upper, err = s.makeDir(newUpperName, upperName); err != nil {
		return false, err
	}
	if err := s.dressUpper(); err != nil {
		return false, errors.Join(err, unix.Unlinkat(int(s.base.Fd()), newUpperName, unix.AT_REMOVEDIR))
	}
	if err := unix.Renameat2(int(s.base.Fd()), newUpperName, int(s.base.Fd()), upperName, unix.RENAME_NOREPLACE); err != nil {
		return false, upperFault(err, "make %s", path)
	}
	return true, nil
}

// makeDir makes a directory in s.base, unless it is there, and opens it under the name that it will have.
func (s *stack) makeDir(name, finally string) (isNew bool, f *os.File, err error) {
	path := filepath.Join(s.base.Name(), finally)
	err = unix.Mkdirat(int(s.base.Fd()), name, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return false, nil, upperFault(err, "make %s", path)
	}
	isNew = err == nil
	fd, err := unix.Openat(int(s.base.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return isNew, nil, upperFault(err, "open %s", path)
	}
	return isNew, os.NewFile(uintptr(fd), path), nil
}

// dressUpper gives a new upper the owner and mode of the uppermost lower's root, since the overlay's root shows those of the upper. An
// owner who is not among the ids of the stack, which shows as nobody, is replaced by their root.
func (s *stack) dressUpper() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.lower[0].Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", s.lower[0].Name(), err)
	}
	if s.ids != nil && !s.ids.Has(st.Uid) {
		st.Uid = s.ids.First
	}
	if s.ids != nil && !s.ids.Has(st.Gid) {
		st.Gid = s.ids.First
	}
	if err := unix.Fchown(int(s.upper.Fd()), int(st.Uid), int(st.Gid)); err != nil {
		return upperFault(err, "chown %s", s.upper.Name())
	}
	if err := unix.Fchmod(int(s.upper.Fd()), st.Mode&0o7777); err != nil {
		return upperFault(err, "chmod %s", s.upper.Name())
	}
	return nil
}

func upperFault(err error, format string, args ...any) error {
	format, args = format+": %w", append(args, err)
	switch {
	case errors.Is(err, unix.EROFS):
		return fault.Hintf(fault.New(fault.Invalid, format, args...), "give an upper that can be written")
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return fault.Hintf(fault.New(fault.Invalid, format, args...), "it must be a directory and no link; remove what is there")
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.New(fault.Unavailable, format, args...)
	}
	return fmt.Errorf(format, args...)
}
