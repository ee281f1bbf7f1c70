package fsmount

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Where Create failed.
const (
	OpOpen   = "open"   // the kernel has no such file system
	OpOption = "option" // one option was refused
	OpCreate = "create" // the file system was not made of its source
	OpMount  = "mount"  // it was made but could not be mounted
)

// Error is what the kernel answered.
type Error struct {
	FSType   string
	Source   string // such as /dev/loop3; may be empty
	Op       string
	Option   string // with OpOption, as mount(8) writes it
	Errno    unix.Errno
	Messages []string // the kernel's own words, if it had any
	Found    string   // with OpCreate, when the kernel did not like what a device holds: what Identify says of it
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "mount %s", e.FSType)
	if e.Source != "" {
		fmt.Fprintf(&b, " from %s", e.Source)
	}
	if e.Op == OpOption {
		fmt.Fprintf(&b, ": option %q", e.Option)
	}
	if len(e.Messages) > 0 {
		fmt.Fprintf(&b, ": %s (%s)", strings.Join(e.Messages, "; "), e.Errno)
	} else {
		fmt.Fprintf(&b, ": %s", e.Errno)
	}
	return b.String()
}

// Unwrap gives the errno.
func (e *Error) Unwrap() error { return e.Errno }

// explain gives an Error its kind and a hint.
func explain(e *Error) error {
	switch {
	case e.Op == OpOpen && e.Errno == unix.ENODEV:
		return fault.Hintf(fault.New(fault.Unsupported, "the kernel has no file system %s: %w", e.FSType, e),
			"load its module (modprobe %s) or use a kernel that has it", e.FSType)
	case e.Op == OpOption:
		return explainOption(e)
	case e.Op == OpCreate:
		return explainCreate(e)
	}
	return fault.New(kindOf(e.Errno), "%w", e)
}

func explainOption(e *Error) error {
	key, value, _ := strings.Cut(e.Option, "=")
	if len(value) > MaxValue {
		return fault.New(fault.Invalid, "%w: its value is longer than the %d bytes that the kernel takes", e, MaxValue)
	}
	return fault.Hintf(fault.New(fault.Invalid, "%w", e), "leave %q out, or see which options %s has in this kernel", key, e.FSType)
}

func explainCreate(e *Error) error {
	switch e.Errno {
	case unix.EACCES, unix.EROFS:
		return fault.Hintf(fault.New(fault.Invalid, "%w: it cannot be written", e), "mount it with the option ro")
	case unix.EINVAL, unix.EUCLEAN, unix.EBADMSG, unix.EIO, unix.ENODATA, unix.EFBIG, unix.EOVERFLOW:
		if strings.HasPrefix(e.Source, "/dev/") {
			return explainContent(e)
		}
	}
	return fault.New(kindOf(e.Errno), "%w", e)
}

// explainContent looks at what the source holds: that tells best why the kernel did not want it.
func explainContent(e *Error) error {
	found, err := Identify(e.Source)
	e.Found = found
	switch {
	case err != nil:
		return fault.New(fault.Corrupt, "%w; %s cannot be read: %w", e, e.Source, err)
	case found == "":
		return fault.Hintf(fault.New(fault.Corrupt, "%w: %s holds no file system that is known", e, e.Source), "check that the image is whole and not compressed")
	case found != e.FSType:
		return fault.Hintf(fault.New(fault.Corrupt, "%w: %s holds %s, not %s", e, e.Source, found, e.FSType), "ask for what it holds, or give another image")
	}
	return fault.Hintf(fault.New(fault.Corrupt, "%w", e), "check that the image is whole; the kernel's log may say more")
}

func kindOf(errno unix.Errno) fault.Kind {
	switch errno {
	case unix.EINVAL, unix.ENOTDIR, unix.ENOTBLK, unix.ENAMETOOLONG, unix.ELOOP, unix.ESTALE:
		return fault.Invalid
	case unix.ENOENT, unix.ENXIO, unix.ENODEV:
		return fault.NotFound
	case unix.EBUSY:
		return fault.Busy
	case unix.EUCLEAN, unix.EBADMSG, unix.EIO:
		return fault.Corrupt
	case unix.EOPNOTSUPP, unix.ENOSYS:
		return fault.Unsupported
	case unix.ENOMEM, unix.ENOSPC, unix.EMFILE, unix.ENFILE:
		return fault.Unavailable
	}
	return fault.Internal
}

// wrap gives the error of a plain call its kind.
func wrap(err error, format string, args ...any) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf(format+": %w", append(args, err)...)
	}
	return fault.New(kindOf(errno), format+": %w", append(args, err)...)
}
