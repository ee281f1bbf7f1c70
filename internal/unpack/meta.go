package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

// xattrPrefix marks extended attributes among the PAX records: what GNU tar, bsdtar and all who copied them write.
const xattrPrefix = "SCHILY.xattr."

func checkOwner(h *tar.Header) error {
	// The largest number means "leave as it is" to the kernel.
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32 {
		return damaged("its owner %d:%d cannot be", h.Uid, h.Gid)
	}
	return nil
}

func checkDevice(h *tar.Header) error {
	if h.Devmajor < 0 || h.Devmajor >= 1<<12 || h.Devminor < 0 || h.Devminor >= 1<<20 {
		return damaged("no device has the number %d:%d", h.Devmajor, h.Devminor)
	}
	return nil
}

func mode(h *tar.Header) uint32 { return uint32(h.Mode) & 0o7777 }

// meta gives an open file or directory its owner, mode and attributes, in this order: a change of owner takes setuid bits and
// capabilities away.
func (u *unpacker) meta(fd int, h *tar.Header) error {
	if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
		return fmt.Errorf("give it to %d:%d: %w", h.Uid, h.Gid, err)
	}
	if err := unix.Fchmod(fd, mode(h)); err != nil {
		return fmt.Errorf("set its mode %04o: %w", mode(h), err)
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrPrefix)
		if !ok {
			continue
		}
		if err := u.xattr(fd, name, value); err != nil {
			return fmt.Errorf("set its attribute %q: %w", clip(name), err)
		}
	}
	return nil
}

func (u *unpacker) xattr(fd int, name, value string) error {
	if !keepXattr(name) {
		u.report.SkippedXattrs++
		return nil
	}
	err := unix.Fsetxattr(fd, name, []byte(value), 0)
	label := name == "security.selinux"
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), label && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM)):
		// user.* came to tmpfs with Linux 6.6; a label is refused by a kernel without SELinux or without that label.
		u.report.SkippedXattrs++
		return nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.E2BIG):
		return damaged("it has %d bytes and the kernel does not take them: %w", len(value), err)
	}
	return err
}

// keepXattr tells attributes that belong to a file from those that belong to the file system it was on: trusted.* steers overlayfs
// and the like, and an image must not.
func keepXattr(name string) bool {
	switch name {
	case "security.capability", "security.selinux", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.")
}

func countXattrs(h *tar.Header) (n int) {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, xattrPrefix) {
			n++
		}
	}
	return n
}

// setTimes sets the times of name in the directory dir. A link is not followed.
func setTimes(dir int, name string, h *tar.Header) error {
	var ts unix.Timespec
	if !h.ModTime.IsZero() {
		ts = unix.Timespec{Sec: h.ModTime.Unix(), Nsec: int64(h.ModTime.Nanosecond())}
	}
	if err := unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set its time: %w", err)
	}
	return nil
}

// finishDirs sets the times of directories, when nothing is made in them any more. A directory that a later entry replaced is left.
func (u *unpacker) finishDirs() error {
	for name, h := range u.dirs {
		fd, err := openBeneath(u.tree.root, name, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
				continue
			}
			return entryError(&h, err)
		}
		err = setTimes(fd, ".", &h)
		_ = unix.Close(fd)
		if err != nil {
			return entryError(&h, err)
		}
	}
	return nil
}
