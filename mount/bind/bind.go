// Package bind is the mount driver of kind "bind": a directory or file of this node, or of another mount, shown at a place of its own.
//
// A bind is a copy of the mount that its source lies on, made detached, cut off from the original (what is mounted or unmounted later on
// one side does not show on the other) and made read-only before anyone can see it.
package bind

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Driver binds. It keeps nothing in memory.
type Driver struct{}

// New makes a driver.
func New() *Driver { return &Driver{} }

// Kind is the word for it on the wire.
func (*Driver) Kind() string { return string(models.MountKindBind) }

// Validate checks the part `bind` of the spec.
func (*Driver) Validate(spec *models.Mount) error {
	_, err := parse(spec)
	return err
}

// request is a spec that was checked.
type request struct {
	path                string
	inMount             bool
	recursive, readOnly bool
}

func parse(spec *models.Mount) (request, error) {
	if spec == nil || spec.Bind == nil {
		return request{}, fault.New(fault.Invalid, "bind is missing: a mount of kind bind says in it what to bind")
	}
	part := spec.Bind
	switch {
	case part.Path == nil || *part.Path == "":
		return request{}, fault.New(fault.Invalid, "bind.path is missing")
	case part.Base == nil:
		return request{}, fault.New(fault.Invalid, "bind.base is missing: it can be root or mount")
	}
	r := request{path: *part.Path, recursive: part.Recursive != nil && *part.Recursive, readOnly: part.Ro != nil && *part.Ro}
	switch *part.Base {
	case models.BaseRoot:
		if part.Mount != nil {
			return request{}, fault.New(fault.Invalid, "bind.mount is given but bind.base is root: let base be mount, or leave the mount out")
		}
		return r, safepath.CheckAbsolute("bind.path", r.path)
	case models.BaseMount:
		if part.Mount == nil {
			return request{}, fault.New(fault.Invalid, "bind.mount is missing: with bind.base mount it says which mount the path is in")
		}
		r.inMount = true
		return r, safepath.CheckBelow("bind.path", r.path)
	}
	return request{}, fault.New(fault.Invalid, "bind.base is %q: it can be root or mount", *part.Base)
}

// Mount binds at target.Dir:
//
//  1. the source is opened, and copied with all its mounts, when those are wanted;
//  2. the copy is cut off from the original and made read-only, still unseen;
//  3. a recursive bind is marked by target.Scratch, so that Unmount knows that what is mounted below is its own;
//  4. for a file, target.Dir becomes a file;
//  5. the copy is moved there.
func (*Driver) Mount(ctx context.Context, id mount.ID, spec *models.Mount, below []mount.Layer, target mount.Target) (a mount.Active, err error) {
	r, err := parse(spec)
	if err != nil {
		return mount.Active{}, err
	}
	if err := target.CheckUnused(); err != nil {
		return mount.Active{}, err
	}
	src, err := open(r, below)
	if err != nil {
		return mount.Active{}, err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return mount.Active{}, err
	}
	mnt, err := copyOf(ctx, src, r)
	if err != nil {
		return mount.Active{}, err
	}
	defer mnt.Close()

	var u undo.Stack
	defer func() { err = u.Unwind(ctx, err) }()
	u.Push("make the mountpoint as it was", func(ctx context.Context) error { return restore(ctx, target) })
	if r.recursive {
		if err := mark(ctx, target); err != nil {
			return mount.Active{}, err
		}
	}
	if !info.IsDir() {
		if err := makeFile(ctx, target); err != nil {
			return mount.Active{}, err
		}
	}
	if err := fsmount.Move(ctx, mnt, target.Dir); err != nil {
		return mount.Active{}, err
	}
	u.Push("unmount", func(ctx context.Context) error { return unmount(ctx, target) })
	return active(id, target)
}

// open opens the source. In a mount no path or link leads out of it.
func open(r request, below []mount.Layer) (*os.File, error) {
	var f *os.File
	var err error
	where := "of this node"
	if r.inMount {
		n := slices.IndexFunc(below, func(l mount.Layer) bool { return l.Role == mount.RoleBase })
		if n < 0 {
			return nil, fault.New(fault.Invalid, "bind.mount: there is no mount that the path could be in")
		}
		where = "in the mount below"
		f, err = safepath.OpenInRoot(below[n].Path, r.path, unix.O_PATH, 0)
	} else {
		f, err = os.OpenFile(r.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, fault.Hintf(fault.New(fault.NotFound, "bind.path: there is no %s %s: %w", r.path, where, err), "make it, or name another")
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return nil, fault.Hintf(fault.New(fault.Invalid, "bind.path: %w", err), "check the path: all before its last part must be directories")
	}
	return nil, fault.New(fault.Internal, "bind.path %s: %w", r.path, err)
}

func copyOf(ctx context.Context, src *os.File, r request) (*os.File, error) {
	mnt, err := fsmount.CloneTree(ctx, src, r.recursive)
	if err != nil {
		return nil, fault.Hintf(err, "a place that is mounted unbindable cannot be bound")
	}
	// Private: else to unmount /dev/pts in a copy of /dev would unmount the node's own.
	attr := fsmount.Attr{Propagation: unix.MS_PRIVATE, Recursive: r.recursive}
	if r.readOnly {
		attr.Set = unix.MOUNT_ATTR_RDONLY
	}
	if err := fsmount.SetAttr(ctx, mnt, attr); err != nil {
		mnt.Close()
		return nil, err
	}
	return mnt, nil
}

func active(id mount.ID, target mount.Target) (mount.Active, error) {
	i, err := fsmount.At(target.Dir)
	if err != nil {
		return mount.Active{}, err
	}
	if i == nil {
		return mount.Active{}, fault.New(fault.BadState, "%s was unmounted by somebody else", target.Dir)
	}
	return mount.Active{ID: id, Target: target, MountID: uint64(i.ID), ReadOnly: fsmount.ReadOnly(i)}, nil
}
