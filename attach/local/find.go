package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/blockdev"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// find resolves the spec to the device that it names at this moment.
func find(id attach.ID, spec *models.Attach) (attach.Device, error) {
	path := *spec.Local.Path
	devnum, err := number(path)
	if err != nil {
		return attach.Device{}, err
	}
	whole, err := blockdev.Get(devnum)
	if err != nil {
		err = fault.New(fault.KindOf(err), "local.path: %s: %w", path, err)
		return attach.Device{}, fault.Hintf(err, "the device has been removed, or its module is not loaded")
	}
	dev := attach.Device{ID: id, DevNum: devnum, ReadOnly: whole.ReadOnly, Number: whole.Sequence}
	if dev.Path, err = node(whole, path); err != nil {
		return attach.Device{}, err
	}
	n := partition(spec)
	if n == 0 {
		return dev, nil
	}
	if whole.Partition != 0 {
		err := fault.New(fault.Invalid, "local.partition: %s is itself a partition", path)
		return attach.Device{}, fault.Hintf(err, "name the whole device, or leave the partition out")
	}
	part, ok, err := blockdev.Partition(devnum, int(n))
	if err != nil {
		return attach.Device{}, err
	}
	if !ok {
		return attach.Device{}, blockdev.NoPartition("local.partition: "+path, devnum, int(n))
	}
	dev.Parent, dev.DevNum, dev.ReadOnly = dev.Path, part.DevNum, part.ReadOnly
	dev.Path, err = node(part, "")
	return dev, err
}

// number gives the device number of the block device at path, links followed.
func number(path string) (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		err := fault.New(fault.NotFound, "local.path: there is no %s: %w", path, err)
		return 0, fault.Hintf(err, "the device may come up later, or its driver is missing; see /dev/disk")
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		err := fault.New(fault.Invalid, "local.path: %w", &os.PathError{Op: "stat", Path: path, Err: err})
		return 0, fault.Hintf(err, "check the path: all before its last part must be directories")
	case err != nil:
		return 0, fmt.Errorf("local.path: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	case st.Mode&unix.S_IFMT == unix.S_IFBLK:
		return uint64(st.Rdev), nil
	}
	hint := "name a block device, such as /dev/sdb or a link in /dev/disk/by-id"
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		hint = "use an attachment of kind loopback for it"
	}
	return 0, fault.Hintf(fault.New(fault.Invalid, "local.path: %s is %s, not a block device", path, safepath.TypeName(st.Mode)), "%s", hint)
}

// node gives the path of the device's node: where the kernel wants it, else what asked resolves to. Either must be a node of the device
// now: between the first look and this one a disk can have been swapped for another.
func node(dev blockdev.Info, asked string) (string, error) {
	paths := []string{dev.Path()}
	if asked != "" {
		resolved, err := filepath.EvalSymlinks(asked)
		if err == nil {
			paths = append(paths, resolved)
		}
	}
	for _, path := range paths {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && uint64(st.Rdev) == dev.DevNum {
			return path, nil
		}
	}
	err := fault.New(fault.NotFound, "local.path: %s is not the node of block device %d:%d",
		paths[len(paths)-1], unix.Major(dev.DevNum), unix.Minor(dev.DevNum))
	return "", fault.Hintf(err, "the device has changed just now, try again; or /dev lacks its node, which udev or devtmpfs makes")
}
