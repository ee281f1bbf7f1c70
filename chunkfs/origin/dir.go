package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
)

// directory is a store on this node, or on what is mounted here. Nothing outside it can be reached, whatever links it has.
type directory struct{ root string }

func (d directory) forget() {}
func (d directory) close()  {}

// open looks at what the path names before it opens it: to open a fifo waits, and to open a device may do something.
func (d directory) open(_ context.Context, w want, s *site) (*content, error) {
	began := time.Now()
	f, size, err := d.openRegular(w.path)
	if err != nil {
		return nil, err
	}
	if w.size >= 0 && size != w.size {
		f.Close()
		f := failed(bad, fault.Backend, "%s has %d bytes, not %d", w.path, size, w.size).hinted(hintStore)
		f.size = true
		return nil, f
	}
	s.answer(time.Since(began))
	end := size
	if !w.whole {
		end = min(w.to, size)
	}
	r := &section{f: f, at: w.from, end: end, path: w.path, meter: w.meter}
	return &content{Reader: r, finish: func() {}, close: func() { f.Close() }, size: size, all: w.from == 0 && end == size}, nil
}

func (d directory) openRegular(path string) (*os.File, int64, error) {
	at, err := safepath.OpenInRoot(d.root, path, unix.O_PATH, 0)
	if err != nil {
		return nil, 0, dirError(path, err)
	}
	defer at.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(at.Fd()), &st); err != nil {
		return nil, 0, dirError(path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, 0, failed(refused, fault.Backend, "%s is %s, not a regular file", path, safepath.TypeName(st.Mode)).hinted(hintStore)
	}
	f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", at.Fd()), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, 0, dirError(path, errors.Unwrap(err))
	}
	return f, st.Size, nil
}

func dirError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return failed(missing, fault.NotFound, "there is no %s", path)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return failed(refused, fault.Backend, "open %s: %v", path, err)
	}
	return failed(again, fault.Backend, "open %s: %v", path, err) // such as ESTALE and EIO of what is mounted there
}

// section is io.SectionReader with errors of ours.
type section struct {
	f       *os.File
	at, end int64
	path    string
	meter   meter
}

func (r *section) Read(p []byte) (int, error) {
	if r.at >= r.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.end-r.at)]
	n, err := r.f.ReadAt(p[:r.meter.pace(len(p))], r.at)
	r.at += int64(n)
	r.meter.count(n)
	switch {
	case errors.Is(err, io.EOF):
		return n, failed(again, fault.Backend, "%s became shorter while it was read", r.path)
	case err != nil:
		return n, failed(again, fault.Backend, "read %s: %v", r.path, errors.Unwrap(err))
	}
	return n, nil
}
