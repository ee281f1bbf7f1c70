// Package safepath opens what a caller or an image names, without being led astray by links.
package safepath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// CheckAbsolute refuses a path that is not absolute, that has a `..` element or a NUL byte. field names it in the message.
func CheckAbsolute(field, path string) error {
	if !filepath.IsAbs(path) {
		return fault.New(fault.Invalid, "%s %q is not an absolute path: let it begin with /", field, path)
	}
	return CheckBelow(field, path)
}

// CheckBelow refuses the same in a path below some root, which may begin with a slash or not. OpenInRoot would keep it inside all the
// same; who writes a `..` means another place than they would get.
func CheckBelow(field, path string) error {
	if strings.ContainsRune(path, 0) {
		return fault.New(fault.Invalid, "%s %q holds a NUL byte", field, path)
	}
	for _, e := range strings.Split(path, "/") {
		if e == ".." {
			return fault.New(fault.Invalid, "%s %q has a \"..\": name the place itself", field, path)
		}
	}
	return nil
}

// OpenInRoot opens path inside the directory root as if root were "/": links, absolute ones too, are followed inside it and nothing
// outside can be reached. flags are those of open(2); O_CLOEXEC is added. mode counts with O_CREAT only.
func OpenInRoot(root, path string, flags int, mode uint64) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	defer unix.Close(dir)
	return OpenInRootAt(dir, path, flags, mode)
}

// OpenInRootAt is OpenInRoot for an open directory.
func OpenInRootAt(dir int, path string, flags int, mode uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Mode: mode, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for range 128 { // EAGAIN: a rename somewhere raced with "..", ask again
		fd, err := unix.Openat2(dir, path, &how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(fd), path), nil
	}
	return nil, &os.PathError{Op: "open", Path: path, Err: unix.EAGAIN}
}

// TypeName says in words what a file of this mode (st_mode) is, such as `a directory`; a regular one is `a file`.
func TypeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a fifo"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFBLK:
		return "a block device"
	case unix.S_IFCHR:
		return "a character device"
	}
	return "something else"
}
