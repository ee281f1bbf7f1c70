package fetch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// file is a source on this node.
type file struct {
	f     *os.File
	src   *Source
	tally *tally
}

// openFile looks at what the path names before it opens it: to open a fifo waits, and to open a device may do something.
func openFile(src *Source, t *tally) (io.ReadCloser, error) {
	path := src.url.Path
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(src, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, openError(src, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fault.New(fault.Invalid, "%s is %s, not a regular file", src, typeName(st.Mode))
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, openError(src, errors.Unwrap(err))
	}
	t.total = st.Size
	return &file{f, src, t}, nil
}

func (f *file) Read(p []byte) (int, error) {
	n, err := f.f.Read(p)
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, fault.New(fault.Backend, "read %s: %w", f.src, errors.Unwrap(err))
	case f.tally.done+int64(n) != f.tally.total:
		return n, changed(f.src, fmt.Sprintf("it had %d bytes and now has %d", f.tally.total, f.tally.done+int64(n)))
	}
	return n, io.EOF
}

func (f *file) Close() error { return f.f.Close() }

func openError(src *Source, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return fault.New(fault.NotFound, "there is no file %s on this node", src)
	}
	return fault.New(fault.Invalid, "open %s: %w", src, err)
}

func typeName(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFBLK, unix.S_IFCHR:
		return "a device"
	}
	return safepath.TypeName(mode)
}
