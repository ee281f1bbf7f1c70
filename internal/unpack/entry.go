package unpack

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

func (u *unpacker) directory(name string, h *tar.Header) error {
	if name != "." {
		if err := u.makeDirectory(name); err != nil {
			return err
		}
	}
	fd, err := u.tree.openDir(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := u.meta(fd, h); err != nil {
		return err
	}
	u.dirs[name] = tar.Header{Name: h.Name, ModTime: h.ModTime}
	return nil
}

// makeDirectory keeps a directory that is there, with what is in it, and replaces anything else.
func (u *unpacker) makeDirectory(name string) error {
	at, err := u.tree.parent(name)
	if err != nil {
		return err
	}
	err = unix.Mkdirat(at.dir, at.name, 0o700)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(at.dir, at.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	return u.tree.create(at, func() error { return unix.Mkdirat(at.dir, at.name, 0o700) })
}

func (u *unpacker) file(at place, h *tar.Header, content io.Reader) error {
	if u.limit > 0 && h.Size > u.limit-u.report.Bytes {
		return fault.New(fault.TooLarge, "with its %d bytes, holes included, the files have more than %d", h.Size, u.limit)
	}
	fd := -1
	err := u.tree.create(at, func() (err error) {
		fd, err = unix.Openat(at.dir, at.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n, err := u.write(fd, content, h.Size)
	u.report.Bytes += n
	if err != nil {
		return err
	}
	if err := u.meta(fd, h); err != nil {
		return err
	}
	return setTimes(at.dir, at.name, h)
}

func (u *unpacker) hardLink(at place, name string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", clip(h.Linkname), err)
	}
	if target == name { // tar writes this when it was given a file twice
		return nil
	}
	from, done, err := u.tree.existing(target)
	if err != nil {
		return linkError(h, err)
	}
	defer done()
	// The target is looked at first: what is at our own name must not go for a link that cannot be.
	var st unix.Stat_t
	if err := unix.Fstatat(from.dir, from.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return linkError(h, err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return damaged("it is a hard link to a directory, %q", clip(h.Linkname))
	}
	return u.tree.create(at, func() error { return unix.Linkat(from.dir, from.name, at.dir, at.name, 0) })
}

func linkError(h *tar.Header, err error) error {
	if errors.Is(err, unix.ENOENT) {
		return damaged("it is a hard link to %q, which is not in the archive before it", clip(h.Linkname))
	}
	return fmt.Errorf("hard link to %q: %w", clip(h.Linkname), err)
}

// symlink makes the link as it is: nothing here ever follows one.
func (u *unpacker) symlink(at place, h *tar.Header) error {
	if h.Linkname == "" {
		return damaged("it is a symbolic link to nothing")
	}
	if err := u.tree.create(at, func() error { return unix.Symlinkat(h.Linkname, at.dir, at.name) }); err != nil {
		return err
	}
	u.report.SkippedXattrs += countXattrs(h)
	if err := unix.Fchownat(at.dir, at.name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return setTimes(at.dir, at.name, h)
}

// node makes a device or a fifo. Whether a device can be opened is the mount's to say: nodev.
func (u *unpacker) node(at place, h *tar.Header) error {
	kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
	var dev uint64
	if h.Typeflag != tar.TypeFifo {
		if err := checkDevice(h); err != nil {
			return err
		}
		dev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	}
	if err := u.tree.create(at, func() error { return unix.Mknodat(at.dir, at.name, kind|0o600, int(dev)) }); err != nil {
		return err
	}
	u.report.SkippedXattrs += countXattrs(h)
	if err := unix.Fchownat(at.dir, at.name, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	// fchmodat would follow a link, but this is the node that was just made, and nobody else is here.
	if err := unix.Fchmodat(at.dir, at.name, mode(h), 0); err != nil {
		return err
	}
	return setTimes(at.dir, at.name, h)
}
