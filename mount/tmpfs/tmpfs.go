// Package tmpfs is the mount driver of kind "tmpfs": an empty file system in memory, with limits.
package tmpfs

import (
	"context"
	"regexp"
	"strconv"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// The least that can be asked for; swagger.yaml says the same.
const (
	minSize   = 64 << 10
	minInodes = 16
)

// Driver mounts file systems in memory. It keeps nothing in memory itself.
type Driver struct{ mode *regexp.Regexp }

// New makes a driver.
func New() *Driver { return &Driver{regexp.MustCompile(`^[0-7]{3,4}$`)} }

// Kind is the word for it on the wire.
func (*Driver) Kind() string { return string(models.MountKindTmpfs) }

// Validate checks the part `tmpfs` of the spec.
func (d *Driver) Validate(spec *models.Mount) error {
	_, err := d.options(spec)
	return err
}

func (d *Driver) options(spec *models.Mount) ([]fsmount.Option, error) {
	if spec == nil || spec.Tmpfs == nil {
		return nil, fault.New(fault.Invalid, "tmpfs is missing: a mount of kind tmpfs has its limits in it, and {} for none")
	}
	part, mode := spec.Tmpfs, "0755"
	if part.Mode != nil {
		mode = *part.Mode
	}
	switch {
	case !d.mode.MatchString(mode):
		return nil, fault.New(fault.Invalid, "tmpfs.mode %q is no mode in octal, such as 0755", mode)
	case part.Size != 0 && part.Size < minSize:
		return nil, fault.New(fault.Invalid, "tmpfs.size %d: it must be %d bytes or more", part.Size, minSize)
	case part.Inodes != 0 && part.Inodes < minInodes:
		return nil, fault.New(fault.Invalid, "tmpfs.inodes %d: it must be %d or more", part.Inodes, minInodes)
	}
	opts := []fsmount.Option{{Key: "source", Value: "tmpfs"}, {Key: "mode", Value: mode}}
	if part.Size != 0 { // else the kernel takes half of the memory
		opts = append(opts, fsmount.Option{Key: "size", Value: strconv.FormatInt(part.Size, 10)})
	}
	if part.Inodes != 0 {
		opts = append(opts, fsmount.Option{Key: "nr_inodes", Value: strconv.FormatInt(part.Inodes, 10)})
	}
	return opts, nil
}

// Mount mounts an empty tmpfs at target.Dir.
func (d *Driver) Mount(ctx context.Context, id mount.ID, spec *models.Mount, _ []mount.Layer, target mount.Target) (mount.Active, error) {
	opts, err := d.options(spec)
	if err != nil {
		return mount.Active{}, err
	}
	if err := target.CheckUnused(); err != nil {
		return mount.Active{}, err
	}
	// No nosuid or nodev: it may become somebody's root.
	mnt, err := fsmount.Create(ctx, "tmpfs", opts, 0)
	if err != nil {
		return mount.Active{}, err
	}
	defer mnt.Close()
	if err := fsmount.Move(ctx, mnt, target.Dir); err != nil {
		return mount.Active{}, err
	}
	mountID, err := fsmount.ID(mnt)
	return mount.Active{ID: id, Target: target, MountID: mountID}, err
}

// Unmount takes it away, and what is in it.
func (*Driver) Unmount(ctx context.Context, a mount.Active, _ bool) error {
	return fsmount.Unmount(ctx, a.Target.Dir)
}

// Probe asks the kernel what is mounted at target.Dir.
func (*Driver) Probe(_ context.Context, id mount.ID, _ *models.Mount, target mount.Target) (mount.Active, mount.State, error) {
	a := mount.Active{ID: id, Target: target}
	i, err := fsmount.At(target.Dir)
	switch {
	case err != nil || i == nil:
		return a, mount.Gone, err
	case i.FSType != "tmpfs":
		return a, mount.Partial, nil // something else is mounted there
	}
	a.MountID, a.ReadOnly = uint64(i.ID), fsmount.ReadOnly(i)
	return a, mount.Ready, nil
}
