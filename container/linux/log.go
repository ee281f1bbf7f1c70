package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// logReader reads the parts of a log as one. Offset 0 is the oldest byte that was there when it was opened; parts that are rotated
// away later stay readable, since their files are open.
type logReader struct {
	r   *Runtime
	id  container.ID
	dir string

	mu     sync.Mutex
	parts  []part // oldest first; the last may still grow
	offset int64
	in     *os.File // inotify, once somebody waits
}

type part struct {
	f     *os.File
	inode uint64
	size  int64
}

// OpenLog opens the log for reading.
func (r *Runtime) OpenLog(ctx context.Context, id container.ID) (container.Log, error) {
	l := &logReader{r: r, id: id, dir: r.dir(id)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(); err != nil {
		l.closeParts()
		return nil, err
	}
	if len(l.parts) == 0 {
		return nil, fault.New(fault.NotFound, "container %d has no log yet", id)
	}
	return l, ctx.Err()
}

// refresh opens parts that have come and measures all.
func (l *logReader) refresh() error {
	current, older, err := l.open()
	if err != nil {
		return err
	}
	for _, p := range []*part{older, current} { // in the order of writing
		switch {
		case p == nil:
		case l.knows(p.inode):
			p.f.Close()
		default:
			l.parts = append(l.parts, *p)
		}
	}
	for i := range l.parts {
		st, err := l.parts[i].f.Stat()
		if err != nil {
			return fmt.Errorf("measure the log of container %d: %w", l.id, err)
		}
		l.parts[i].size = st.Size()
	}
	return nil
}

// open opens both parts that there are, each nil when it is not there. A rotation in between is noticed, since the log is then another
// file, and leads to another try: else the parts could come out of order.
func (l *logReader) open() (current, older *part, err error) {
	for {
		if current, err = l.openPart(proto.LogName); err != nil {
			return nil, nil, err
		}
		if older, err = l.openPart(proto.LogName + ".1"); err != nil {
			current.close()
			return nil, nil, err
		}
		var st unix.Stat_t
		err = unix.Stat(filepath.Join(l.dir, proto.LogName), &st)
		if current == nil && errors.Is(err, unix.ENOENT) || current != nil && err == nil && st.Ino == current.inode {
			return current, older, nil
		}
		current.close()
		older.close()
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, nil, fmt.Errorf("look at the log of container %d: %w", l.id, err)
		}
	}
}

func (p *part) close() {
	if p != nil {
		p.f.Close()
	}
}

func (l *logReader) openPart(name string) (*part, error) {
	f, err := os.Open(filepath.Join(l.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the log of container %d: %w", l.id, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("open the log of container %d: %w", l.id, err)
	}
	return &part{f: f, inode: st.Ino}, nil
}

func (l *logReader) knows(inode uint64) bool {
	for _, p := range l.parts {
		if p.inode == inode {
			return true
		}
	}
	return false
}

func (l *logReader) total() int64 {
	var n int64
	for _, p := range l.parts {
		n += p.size
	}
	return n
}

// Size is how much there is now.
func (l *logReader) Size() (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.refresh()
	return l.total(), err
}

// Read reads on; io.EOF says that there is no more now.
func (l *logReader) Read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refresh(); err != nil {
		return 0, err
	}
	at := l.offset
	for _, p := range l.parts {
		if at < p.size {
			n, err := p.f.ReadAt(b[:min(int64(len(b)), p.size-at)], at)
			l.offset += int64(n)
			if n > 0 {
				err = nil
			}
			return n, err
		}
		at -= p.size
	}
	return 0, io.EOF
}

// Seek moves the offset.
func (l *logReader) Seek(offset int64, whence int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += l.offset
	case io.SeekEnd:
		if err := l.refresh(); err != nil {
			return 0, err
		}
		offset += l.total()
	default:
		return 0, fault.New(fault.Invalid, "seek: unknown whence %d", whence)
	}
	if offset < 0 {
		return 0, fault.New(fault.Invalid, "seek: before the beginning")
	}
	l.offset = offset
	return offset, nil
}

// WaitMore returns when there is more to read than offset, or io.EOF when no more can come. The kernel tells of what is written, the
// shim or its loss of the end.
func (l *logReader) WaitMore(ctx context.Context, offset int64) error {
	in, err := l.inotify()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = in.SetReadDeadline(time.Unix(1, 0)) })()
	ch, err := l.r.Watch(ctx, l.id)
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		for range ch {
		}
		close(over)
		_ = in.SetReadDeadline(time.Unix(1, 0)) // wakes the one who reads below
	}()
	buf := make([]byte, 4096)
	for {
		if err := in.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		ended := false
		select {
		case <-over:
			ended = true
		default:
		}
		size, err := l.Size() // after the look at over: what was written before the end is counted
		switch {
		case err != nil:
			return err
		case size > offset:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case ended:
			return io.EOF
		}
		if _, err := in.Read(buf); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("wait for more of the log: %w", err)
		}
	}
}

// inotify watches the directory, made once a reader.
func (l *logReader) inotify() (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.in != nil {
		return l.in, nil
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fault.Hintf(fmt.Errorf("watch the log: %w", err), "raise fs.inotify.max_user_instances (sysctl)")
	}
	if _, err := unix.InotifyAddWatch(fd, l.dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch the log: %w", err)
	}
	l.in = os.NewFile(uintptr(fd), "inotify")
	return l.in, nil
}

func (l *logReader) closeParts() {
	for _, p := range l.parts {
		p.f.Close()
	}
	l.parts = nil
}

// Close frees everything; a WaitMore under way returns.
func (l *logReader) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeParts()
	if l.in != nil {
		l.in.Close()
	}
	return nil
}
