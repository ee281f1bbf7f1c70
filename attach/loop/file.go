package loop

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// sector is the unit of a block device's size.
const sector = 512

// openFile opens the file of the spec, and says whether it did so read-only.
//
// It is looked at before it is opened: opening a fifo waits for a writer, and opening a device can do anything. What is opened is what
// was looked at, also when the name changes hands in between.
func openFile(l *models.AttachLoopback, base attach.Base) (f *os.File, readOnly bool, err error) {
	place, err := locate(l, base)
	if err != nil {
		return nil, false, err
	}
	defer place.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(place.Fd()), &st); err != nil {
		return nil, false, fmt.Errorf("stat %s: %w", *l.Path, err)
	}
	if err := checkType(*l.Path, st.Mode); err != nil {
		return nil, false, err
	}
	if err := checkSize(l, st.Size); err != nil {
		return nil, false, err
	}
	return reopen(place, l, base)
}

// locate finds the file without opening it.
func locate(l *models.AttachLoopback, base attach.Base) (*os.File, error) {
	var f *os.File
	var err error
	if value(l.Base) == models.BaseMount || base.Confined {
		f, err = safepath.OpenInRoot(base.Dir, *l.Path, unix.O_PATH, 0)
	} else {
		f, err = os.OpenFile(*l.Path, unix.O_PATH, 0)
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.ENOENT):
		where := "this node"
		if value(l.Base) == models.BaseMount {
			where = "the mount"
		}
		err = fault.New(fault.NotFound, "loopback.path: there is no file %q on %s: %w", *l.Path, where, unix.ENOENT)
		return nil, fault.Hintf(err, "check the path; links on the way are followed inside the mount only")
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENAMETOOLONG):
		return nil, fault.Hintf(fault.New(fault.Invalid, "loopback.path: %w", err), "check the path: all before its last part must be directories")
	}
	return nil, fmt.Errorf("loopback.path: %w", err)
}

func checkType(path string, mode uint32) error {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFBLK:
		err := fault.New(fault.Invalid, "loopback.path: %q is a block device, not a file", path)
		return fault.Hintf(err, "use an attachment of kind local for it")
	}
	err := fault.New(fault.Invalid, "loopback.path: %q is %s, not a file", path, safepath.TypeName(mode))
	return fault.Hintf(err, "a loop device needs a regular file, such as an image")
}

// checkSize sees to it that the part of the file asked for is there. All of it is below 2^63, so nothing overflows.
func checkSize(l *models.AttachLoopback, size int64) error {
	offset, limit := value(l.Offset), value(l.SizeLimit)
	switch {
	case size < sector:
		return fault.New(fault.Invalid, "loopback.path: %q has %d bytes: a device needs a sector (%d bytes) at least", *l.Path, size, sector)
	case offset > size-sector:
		return fault.New(fault.Invalid, "loopback.offset %d leaves no sector of %q, which has %d bytes", offset, *l.Path, size)
	case limit > size-offset:
		return fault.New(fault.Invalid, "loopback.size_limit %d is beyond the end of %q: there are %d bytes after offset %d",
			limit, *l.Path, size-offset, offset)
	}
	return nil
}

// reopen opens the file that place names, for writing when that is wanted and possible.
func reopen(place *os.File, l *models.AttachLoopback, base attach.Base) (*os.File, bool, error) {
	open := func(flags int) (*os.File, error) {
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", place.Fd()), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: *l.Path, Err: err}
		}
		return os.NewFile(uintptr(fd), *l.Path), nil
	}
	if !(value(l.ReadOnly) || l.ReadOnly == nil && base.ReadOnly) {
		f, err := open(unix.O_RDWR)
		if err == nil {
			return f, false, nil
		}
		if l.ReadOnly != nil {
			err = fmt.Errorf("loopback.read_only is false, but the file cannot be written: %w", err)
			return nil, false, fault.Hintf(fault.New(fault.Invalid, "%w", err), "leave read_only out or make the file writable")
		}
		if !unwritable(err) {
			return nil, false, fmt.Errorf("loopback.path: %w", err)
		}
	}
	f, err := open(unix.O_RDONLY)
	if err != nil {
		return nil, false, fmt.Errorf("loopback.path: %w", err)
	}
	return f, true, nil
}

// unwritable says whether err is one of those with which a file that can be read refuses to be written: a read-only file system, an
// immutable file, a program that runs.
func unwritable(err error) bool {
	return errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ETXTBSY)
}
