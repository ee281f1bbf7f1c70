// Package publish opens the files that the boot server gives to whoever asks, and no other.
//
// A name comes from the network. It is looked up below one directory, whatever it says and whatever links are in the way; single files from
// elsewhere are published by a name of their own. Nothing is ever written.
package publish

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxName bounds a name, as the kernel does.
const maxName = 4096

// Tree is what is published below one root. It may be used by several goroutines.
type Tree struct {
	root  *os.Root
	extra func() map[string]string
}

// New publishes the regular files below dir; an empty dir publishes none. extra, which may be nil, gives paths of single files by their
// names, anew for each request: such a file may be a link to anywhere, for an administrator named it.
func New(dir string, extra func() map[string]string) (*Tree, error) {
	t := &Tree{extra: extra}
	if dir == "" {
		return t, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fault.New(fault.NotFound, "publish %s: %w", dir, err)
	}
	t.root = root
	return t, nil
}

// Close gives the directory free.
func (t *Tree) Close() error {
	if t.root == nil {
		return nil
	}
	return t.root.Close()
}

// Clean says what a name asks for, relative to the root, or why it is refused. One slash at the beginning means the root: boot
// programs write it so.
func Clean(name string) (string, error) {
	rel := strings.TrimPrefix(name, "/")
	switch {
	case rel == "" || len(name) > maxName:
		return "", fault.New(fault.Invalid, "no file has a name of %d characters", len(rel))
	case strings.ContainsFunc(rel, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return "", fault.New(fault.Forbidden, "%.80q: control characters and backslashes are refused", name)
	case !fs.ValidPath(rel) || rel != path.Clean(rel):
		return "", fault.New(fault.Forbidden, "%.80q: a path with .., empty or doubled parts is refused", name)
	}
	for part := range strings.SplitSeq(rel, "/") {
		if strings.HasPrefix(part, ".") {
			return "", fault.New(fault.Forbidden, "%.80q: hidden files are not published", name)
		}
	}
	return rel, nil
}

// Open opens a regular file for reading. Errors are Invalid, Forbidden or NotFound.
func (t *Tree) Open(name string) (*os.File, fs.FileInfo, error) {
	rel, err := Clean(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := t.open(rel)
	if err != nil {
		return nil, nil, kind(rel, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fault.New(fault.NotFound, "%.80q is no file", rel)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, st, nil
}

// open does not wait for who writes into a named pipe.
func (t *Tree) open(rel string) (*os.File, error) {
	if t.extra != nil {
		if p, ok := t.extra()[rel]; ok {
			return os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		}
	}
	if t.root == nil {
		return nil, fs.ErrNotExist
	}
	return t.root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// kind tells no more than that a file is not there: where a link leads is nobody's business.
func kind(rel string, err error) error {
	var p *fs.PathError
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ENAMETOOLONG) {
		return fault.New(fault.NotFound, "%.80q is not published", rel)
	}
	if errors.As(err, &p) {
		err = p.Err
	}
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO, syscall.ESTALE, syscall.ETIMEDOUT} {
		if errors.Is(err, e) { // this machine's trouble, which may pass: a node tries again
			return fault.New(fault.Unavailable, "%.80q cannot be read now: %w", rel, err)
		}
	}
	return &fault.Error{Kind: fault.Forbidden, Msg: fmt.Sprintf("%.80q cannot be read: %v", rel, err), Err: err}
}
