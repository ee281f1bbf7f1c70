// Package device is the mount driver of kind "attach": the file system of a block device.
//
// The options of a mount are checked and then given to the kernel one by one; what it says of a refused one goes to the caller. Images
// are hostile: nothing of them is read here but the length that their superblock gives.
package device

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/holders"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Driver mounts block devices. It keeps nothing in memory.
type Driver struct{}

// New makes a driver.
func New() *Driver { return &Driver{} }

// Kind is the word for it on the wire.
func (*Driver) Kind() string { return string(models.MountKindAttach) }

// fsTypes are the file systems that can be asked for.
func fsTypes() []string { return []string{"squashfs", "erofs", "ext4", "xfs", "btrfs"} }

// onlyReads says whether a file system can never be written.
func onlyReads(fsType string) bool { return fsType == "squashfs" || fsType == "erofs" }

// Validate checks the part `attach` of the spec.
func (*Driver) Validate(spec *models.Mount) error {
	_, err := parse(spec)
	return err
}

// request is a spec that was checked.
type request struct {
	fsType string
	options
}

func parse(spec *models.Mount) (request, error) {
	if spec == nil || spec.Attach == nil {
		return request{}, fault.New(fault.Invalid, "attach is missing: a mount of kind attach says in it what to mount")
	}
	part := spec.Attach
	if part.Attach == nil {
		return request{}, fault.New(fault.Invalid, "attach.attach is missing: give the attachment to mount, or the id of one")
	}
	if part.FsType == nil || !slices.Contains(fsTypes(), *part.FsType) {
		got := "nothing"
		if part.FsType != nil {
			got = *part.FsType
		}
		return request{}, fault.Hintf(fault.New(fault.Invalid, "attach.fs_type is %q", got), "it can be %s", strings.Join(fsTypes(), ", "))
	}
	o, err := parseOptions(*part.FsType, part.MountOptions)
	return request{*part.FsType, o}, err
}

// Mount mounts the device below at target.Dir.
func (*Driver) Mount(ctx context.Context, id mount.ID, spec *models.Mount, below []mount.Layer, target mount.Target) (mount.Active, error) {
	r, err := parse(spec)
	if err != nil {
		return mount.Active{}, err
	}
	n := slices.IndexFunc(below, func(l mount.Layer) bool { return l.Role == mount.RoleDevice })
	if n < 0 {
		return mount.Active{}, fault.New(fault.Invalid, "attach.attach: there is no device to mount")
	}
	dev := below[n]
	if err := target.CheckUnused(); err != nil {
		return mount.Active{}, err
	}
	if dev.ReadOnly && !r.readOnly {
		return mount.Active{}, fault.Hintf(fault.New(fault.Invalid, "mount %s from %s: the device is read-only", r.fsType, dev.Path),
			"add ro to mount_options")
	}
	if err := checkWhole(r.fsType, dev.Path); err != nil {
		return mount.Active{}, err
	}
	mnt, err := fsmount.Create(ctx, r.fsType, r.fsconfig(dev.Path), r.attrs)
	if err != nil {
		return mount.Active{}, explain(err, r, dev)
	}
	defer mnt.Close()
	mountID, err := fsmount.ID(mnt)
	if err != nil {
		return mount.Active{}, err
	}
	if err := fsmount.Move(ctx, mnt, target.Dir); err != nil {
		return mount.Active{}, err
	}
	return mount.Active{ID: id, Target: target, MountID: mountID, ReadOnly: r.readOnly}, nil
}

// explain adds what only this driver knows of the kernel's answer.
func explain(err error, r request, dev mount.Layer) error {
	journal := map[string]string{"ext4": "noload", "xfs": "norecovery", "btrfs": "rescue=nologreplay"}[r.fsType]
	var answer *fsmount.Error
	switch {
	case errors.As(err, &answer) && answer.Errno == unix.EINVAL && answer.Found == r.fsType && r.asked:
		return fault.Hintf(fault.New(fault.Invalid, "%w", err), "the mount_options do not go with this %s, or it is damaged", r.fsType)
	case errors.Is(err, unix.EROFS) && r.readOnly && journal != "":
		return fault.Hintf(err, "it was not unmounted cleanly and its journal cannot be replayed on a read-only device: add %s to mount_options, or repair the image", journal)
	case fault.Is(err, fault.Busy):
		var st unix.Stat_t
		if unix.Stat(dev.Path, &st) == nil {
			return fault.Hintf(err, "%s is held by %s", dev.Path, holders.Text(holders.OfDevice(uint64(st.Rdev))))
		}
	}
	return err
}

// Unmount takes it away.
func (*Driver) Unmount(ctx context.Context, a mount.Active, _ bool) error {
	return fsmount.Unmount(ctx, a.Target.Dir)
}

// Probe asks the kernel what is mounted at target.Dir.
func (*Driver) Probe(_ context.Context, id mount.ID, spec *models.Mount, target mount.Target) (mount.Active, mount.State, error) {
	a := mount.Active{ID: id, Target: target}
	i, err := fsmount.At(target.Dir)
	if err != nil || i == nil {
		return a, mount.Gone, err
	}
	a.MountID, a.ReadOnly = uint64(i.ID), fsmount.ReadOnly(i)
	if spec == nil || spec.Attach == nil || spec.Attach.FsType == nil || i.FSType != *spec.Attach.FsType {
		return a, mount.Partial, nil // something else is mounted there
	}
	return a, mount.Ready, nil
}
