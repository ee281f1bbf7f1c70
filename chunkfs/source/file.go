package source

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// file is the content of a file of a directory. It is what Walk saw: a file that changed since is an error, before, while and after it
// is read.
type file struct {
	d    *directory
	f    *os.File
	path string
	was  *unix.Statx_t
	pos  int64
	size int64
}

// content opens the regular file that was at path. Whatever else is there now is not opened: to open a device is to use it.
func (d *directory) content(path string, was *unix.Statx_t) (Content, error) {
	fd, err := d.open(path, unix.O_PATH)
	if err != nil {
		return nil, reopenError(path, err)
	}
	defer unix.Close(fd)
	if err := same(path, fd, was); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("open %q: %w", path, errors.Unwrap(err))
	}
	return &file{d: d, f: f, path: path, was: was, size: int64(was.Size)}, nil
}

// same says whether fd still is what was, unchanged.
func same(path string, fd int, was *unix.Statx_t) error {
	st, err := statx(fd)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	switch {
	case identify(st) != identify(was), st.Mode&unix.S_IFMT != was.Mode&unix.S_IFMT:
		return changed(path, errOther)
	case st.Size != was.Size:
		return changed(path, fmt.Errorf("it had %d bytes and has %d", was.Size, st.Size))
	case st.Mtime != was.Mtime, st.Ctime != was.Ctime:
		return changed(path, errors.New("its times are others than before"))
	}
	return nil
}

func (f *file) Read(p []byte) (int, error) {
	if f.pos >= f.size {
		return 0, io.EOF
	}
	n, err := f.f.Read(p[:min(int64(len(p)), f.size-f.pos)])
	f.pos += int64(n)
	f.d.done.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		err = changed(f.path, fmt.Errorf("it ends after %d of %d bytes", f.pos, f.size))
	case err != nil:
		err = fmt.Errorf("read %q: %w", f.path, errors.Unwrap(err))
	}
	return n, err
}

func (f *file) NextData(off int64) (start, end int64, err error) {
	fd := int(f.f.Fd())
	start, err = unix.Seek(fd, off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		f.pos = f.size
		return 0, 0, io.EOF
	case errors.Is(err, unix.EINVAL): // the file system does not know: all is data
		start, end = off, f.size
	case err == nil:
		end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	}
	if err == nil || errors.Is(err, unix.EINVAL) {
		_, err = unix.Seek(fd, start, unix.SEEK_SET)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("find the data of %q: %w", f.path, err)
	}
	if start >= f.size {
		f.pos = f.size
		return 0, 0, io.EOF
	}
	f.pos = start
	return start, min(end, f.size), nil
}

func (f *file) Close() error {
	return errors.Join(same(f.path, int(f.f.Fd()), f.was), f.f.Close())
}
