// Package overlay is the mount driver of kind "overlay": several mounts as one, with a place for what is written.
//
// What is written lies, as asked for, on a tmpfs of the overlay's own (mounted at target.Scratch, where it can be looked at), in a
// directory of the node, or in another mount; or nothing can be written. The layers are the caller's: this package never looks into
// them, and it never deletes an upper that is not its own.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Driver mounts overlays. It remembers only which uppers calls of Mount that go on just now have taken.
type Driver struct {
	mu    sync.Mutex
	taken map[inode]bool
	// legacy has it do as on kernels before Linux 6.13, which take layers by path only.
	legacy bool
}

// New makes a driver.
func New() *Driver { return &Driver{taken: map[inode]bool{}} }

// Kind is the word for it on the wire.
func (*Driver) Kind() string { return string(models.MountKindOverlay) }

// Validate checks the part `overlay` of the spec.
func (*Driver) Validate(spec *models.Mount) error { return validate(spec) }

// Mount makes the place for what is written, and the overlay above it. What is made is in this order, and goes in the reverse one:
// target.Scratch, the tmpfs on it, its directories, the overlay. With target.IDs copies of the lower layers come before all that (shift.go).
func (d *Driver) Mount(ctx context.Context, id mount.ID, spec *models.Mount, below []mount.Layer, target mount.Target) (a mount.Active, err error) {
	if err := validate(spec); err != nil {
		return mount.Active{}, err
	}
	if err := target.CheckUnused(); err != nil {
		return mount.Active{}, err
	}
	s := stack{ids: target.IDs}
	defer s.close()
	if err := s.openLowers(below); err != nil {
		return mount.Active{}, err
	}
	var u undo.Stack
	defer func() {
		if err != nil {
			s.closeLayers() // open files would keep the scratch busy
		}
		err = u.Unwind(ctx, err)
	}()
	if s.ids != nil {
		u.Push("unmount the layers", func(ctx context.Context) error { return fsmount.Unmount(ctx, target.Dir) })
		if err := s.shiftLowers(ctx, target.Dir); err != nil {
			return mount.Active{}, err
		}
	}
	u.Push("clean "+target.Scratch, func(ctx context.Context) error { return clean(ctx, target) })
	if err := d.openUpper(ctx, spec, below, target, &s, &u); err != nil {
		return mount.Active{}, err
	}
	upper, work := s.names()
	if err := d.place(ctx, &s, target); err != nil {
		return mount.Active{}, explain(err)
	}
	u.Push("unmount", func(ctx context.Context) error { return fsmount.Unmount(ctx, target.Dir) })
	if a, err = active(id, target); err == nil && upper != "" {
		a.Upperdir, a.Workdir = upper, work
	}
	return a, err
}

// openLowers opens the lower layers.
func (s *stack) openLowers(below []mount.Layer) error {
	for _, l := range below {
		if l.Role != mount.RoleLower {
			continue
		}
		f, err := openDir(l.Path, 0)
		if errors.Is(err, unix.ENOTDIR) {
			return fault.New(fault.Invalid, "overlay.lower: mount %d is not a directory but a file", l.ID)
		}
		if err != nil {
			return fmt.Errorf("overlay.lower: mount %d: %w", l.ID, err)
		}
		s.lower = append(s.lower, f)
	}
	if len(s.lower) == 0 {
		return fault.New(fault.Invalid, "overlay.lower is empty: an overlay lies on one mount or more")
	}
	return nil
}

// place makes the overlay at target.Dir.
func (d *Driver) place(ctx context.Context, s *stack, target mount.Target) error {
	byFile, err := d.takesFiles(s.lower[0])
	if err != nil {
		return err
	}
	if !byFile && s.ids == nil {
		data, flags := s.data()
		return fsmount.Legacy(ctx, "overlay", "overlay", target.Dir, flags, data)
	}
	var mnt *os.File
	if byFile {
		mnt, err = fsmount.Create(ctx, "overlay", s.options(), s.attrs())
	} else {
		mnt, err = s.createOver(ctx, target.Dir)
	}
	if err != nil {
		return err
	}
	defer mnt.Close()
	if s.ids != nil {
		s.closeLayers() // open files would keep them busy
		if err := fsmount.Unmount(ctx, target.Dir); err != nil {
			return err
		}
	}
	return fsmount.Move(ctx, mnt, target.Dir)
}

// explain says of which kind an answer of the kernel is that means something else for an overlay.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fault.Hintf(err, "another overlay has this upper; an upper can be that of one overlay only")
	case errors.Is(err, unix.ESTALE):
		return fault.Hintf(err, "the upper was made with other lower layers; give an empty one")
	case errors.Is(err, unix.EINVAL):
		return fault.Hintf(err, "overlays can lie on overlays only once, and an upper needs a local file system with extended attributes, such as ext4, xfs, btrfs or tmpfs")
	}
	return err
}
