package loopdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
)

const (
	controlPath  = "/dev/loop-control"
	controlMajor = 10 // misc devices
	controlMinor = 237
)

// openControl opens the device that hands out loop devices. Opening its node loads the module where it is not in the kernel yet.
func openControl(ctx context.Context) (*os.File, error) {
	f, err := os.OpenFile(controlPath, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if err = mknod(ctx, controlPath, unix.S_IFCHR|0o660, unix.Mkdev(controlMajor, controlMinor)); err == nil {
			f, err = os.OpenFile(controlPath, os.O_RDWR, 0)
		}
	}
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		err = fault.New(fault.Unsupported, "%w", err)
		return nil, fault.Hintf(err, "the kernel has no loop devices: load the module loop")
	}
	if err != nil {
		return nil, fmt.Errorf("open the loop control device: %w", err)
	}
	return f, nil
}

// open opens loop device number with flags, and makes its node when nobody else did: a /dev that is not devtmpfs has none. It answers
// the device number too. ENXIO: there is no such device.
func open(ctx context.Context, number, flags int) (*os.File, uint64, error) {
	devnum, err := DevNum(fmt.Sprintf("/sys/block/loop%d", number))
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", path(number), unix.ENXIO)
	}
	for range 2 {
		fd, err := unix.Open(path(number), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == nil {
			f := os.NewFile(uintptr(fd), path(number))
			if opened(f) == devnum {
				return f, devnum, nil
			}
			f.Close()
		} else if !errors.Is(err, unix.ENOENT) {
			return nil, 0, &os.PathError{Op: "open", Path: path(number), Err: err}
		}
		if err := MakeNode(ctx, path(number), devnum); err != nil {
			return nil, 0, err
		}
	}
	return nil, 0, fmt.Errorf("open %s: its node is not that of the device: %w", path(number), unix.ENXIO)
}

// opened gives the number of the open block device, 0 when it is none.
func opened(f *os.File) uint64 {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0
	}
	return uint64(st.Rdev)
}

// DevNum reads the device number from a device's directory in sysfs.
func DevNum(dir string) (uint64, error) {
	b, err := os.ReadFile(dir + "/dev")
	if err != nil {
		return 0, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(strings.TrimSpace(string(b)), "%d:%d", &major, &minor); err != nil {
		return 0, fmt.Errorf("read %s/dev: %q is no device number: %w", dir, b, err)
	}
	return unix.Mkdev(major, minor), nil
}

// MakeNode sees to it that path is the node of the block device devnum. A node of another block device, left from an earlier owner of
// the name, is replaced; anything else at path is an error.
func MakeNode(ctx context.Context, path string, devnum uint64) error {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFBLK:
		return fmt.Errorf("make the device node %s: something that is no block device has the name: %w", path, unix.EEXIST)
	case uint64(st.Rdev) == devnum:
		return nil
	}
	return mknod(ctx, path, unix.S_IFBLK|0o660, devnum)
}

// mknod makes the node beside its place and renames it there, so that nobody sees a wrong one.
func mknod(ctx context.Context, path string, mode uint32, devnum uint64) error {
	return step.Do(ctx, "loopback.mknod", func(context.Context) error {
		temp := fmt.Sprintf("%s.%d.new", path, unix.Gettid())
		_ = unix.Unlink(temp)
		if err := unix.Mknod(temp, mode, int(devnum)); err != nil {
			err = &os.PathError{Op: "mknod", Path: path, Err: err}
			return fault.Hintf(err, "windlass must be allowed to make device nodes (CAP_MKNOD), or /dev must be a devtmpfs")
		}
		if err := unix.Rename(temp, path); err != nil {
			_ = unix.Unlink(temp)
			return &os.PathError{Op: "rename the node to", Path: path, Err: err}
		}
		return nil
	})
}
