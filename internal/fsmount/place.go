package fsmount

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/undo"
)

// Move puts a detached mount at target, a directory or file on which nothing is mounted yet: BadState when something is. The last link
// is not followed. mnt stays open and the caller's; a mount stays when it is closed. On error nothing is mounted there. The stage is
// "mount.move".
func Move(ctx context.Context, mnt *os.File, target string) error {
	if err := CheckFree(target); err != nil {
		return err
	}
	moved, err := cover(ctx, mnt, target)
	if err != nil && moved {
		return takeBack(ctx, mnt, target, err)
	}
	return err
}

// Cover is Move to a place where something may be mounted already, which it covers. On error mnt may be there all the same: the caller
// unmounts what there is.
func Cover(ctx context.Context, mnt *os.File, target string) error {
	_, err := cover(ctx, mnt, target)
	return err
}

func cover(ctx context.Context, mnt *os.File, target string) (moved bool, err error) {
	err = step.Do(ctx, "mount.move", func(context.Context) error {
		if err := unix.MoveMount(int(mnt.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return wrap(err, "move %s to %s", mnt.Name(), target)
		}
		moved = true
		return nil
	})
	return moved, err
}

// takeBack unmounts what was moved by a step that then failed.
func takeBack(ctx context.Context, mnt *os.File, target string, cause error) error {
	mnt.Close() // it would keep the mount busy
	var u undo.Stack
	u.Push("unmount "+target, func(ctx context.Context) error { return UnmountTree(ctx, target) })
	return u.Unwind(ctx, cause)
}

// CheckFree gives BadState when something is mounted at target.
func CheckFree(target string) error {
	mounted, err := isMountpoint(target)
	if err != nil {
		return fmt.Errorf("look at the mountpoint: %w", err)
	}
	if mounted {
		return fault.Hintf(fault.New(fault.BadState, "something is mounted at %s already", target), "unmount it first")
	}
	return nil
}

// CloneTree gives a detached copy of the mount that src lies on, with src as its root; with recursive also of what is mounted below.
// src may be an O_PATH descriptor of a directory or a file. The stage is "mount.clone".
func CloneTree(ctx context.Context, src *os.File, recursive bool) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	var mnt *os.File
	err := step.Do(ctx, "mount.clone", func(context.Context) error {
		fd, err := unix.OpenTree(int(src.Fd()), "", flags)
		if err != nil {
			return wrap(err, "clone the mount of %s", src.Name())
		}
		mnt = os.NewFile(uintptr(fd), "copy of "+src.Name())
		return nil
	})
	if err != nil && mnt != nil {
		mnt.Close()
		mnt = nil
	}
	return mnt, err
}

// Attr is what SetAttr changes.
type Attr struct {
	Set, Clear  uint64 // MOUNT_ATTR_* bits
	Propagation uint64 // MS_PRIVATE, MS_SLAVE, MS_SHARED, or 0 for as it is
	Recursive   bool   // also of what is mounted below
	// Users is a user namespace whose ids the mount is to show, or nil. Only a mount that has never been attached takes one, and only
	// of a file system that can: else the kernel answers EINVAL.
	Users *os.File
}

// SetAttr changes a mount, detached or not, all of it or nothing. The stage is "mount.setattr".
func SetAttr(ctx context.Context, mnt *os.File, a Attr) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if a.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := unix.MountAttr{Attr_set: a.Set, Attr_clr: a.Clear, Propagation: a.Propagation}
	if a.Users != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(a.Users.Fd())
	}
	return step.Do(ctx, "mount.setattr", func(context.Context) error {
		err := unix.MountSetattr(int(mnt.Fd()), "", flags, &attr)
		if errors.Is(err, unix.ENOSYS) {
			return fault.New(fault.Unsupported, "set the attributes of %s: %w; Linux 5.12 or newer is needed", mnt.Name(), err)
		}
		if err != nil {
			return wrap(err, "set the attributes of %s", mnt.Name())
		}
		return nil
	})
}

// ID gives the mount id of what an open file lies on.
func ID(f *os.File) (uint64, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st); err != nil {
		return 0, fmt.Errorf("statx %s: %w", f.Name(), err)
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, fmt.Errorf("statx %s: the kernel gives no mount id; Linux 5.8 or newer is needed", f.Name())
	}
	return st.Mnt_id, nil
}

// At tells what is mounted at target, uppermost when several are; nil when nothing is or target is not there.
func At(target string) (*mountinfo.Info, error) {
	mounted, err := isMountpoint(target)
	if err != nil || !mounted {
		return nil, err
	}
	id, err := mountinfo.ID(target)
	if err != nil {
		return nil, err
	}
	return mountinfo.ByID(id)
}

// ReadOnly says whether nothing can be written through the mount, for its own sake or for its file system's.
func ReadOnly(i *mountinfo.Info) bool {
	return hasFlag(i.Options, "ro") || hasFlag(i.VFSOptions, "ro")
}

func hasFlag(options, flag string) bool { return slices.Contains(strings.Split(options, ","), flag) }

// isMountpoint is false also when there is no such path.
func isMountpoint(target string) (bool, error) {
	mounted, err := mountinfo.IsMountpoint(target)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	return mounted, err
}
