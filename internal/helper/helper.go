// Package helper carries out what may block in the kernel for ever, in a process of its own that can be left behind: writing to a file of
// sysfs, opening a device, mounting, unmounting, asking a file system whether it answers.
//
// The process is windlass-shim, called with the word helper (internal/helper/act). It gets its order on a socket, never in its arguments
// or its environment, since an order may hold a secret. It dies with the daemon. It owns nothing: the mount that it makes is detached,
// and goes with it unless its descriptor has arrived here.
package helper

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/helper/act"
)

// Runner starts helpers, one for each call. Its methods may be called from many goroutines.
//
// When ctx ends, the helper is killed. One that has not ended 200 ms later is left behind: the error is a *Stuck of kind Timeout, and the
// helper is reaped when it ends at last. What it was doing may still happen then, but for Create, which never places anything. Else,
// when ctx has ended, the error is that of ctx, with kind Timeout for a deadline.
//
// No method makes a step (internal/step): that is the caller's business.
type Runner struct {
	shim string

	mu   sync.Mutex
	left map[*process]Left
	open []*os.File // what Close could not close; else the garbage collector would
}

// New makes a Runner; shim is the path of windlass-shim.
func New(shim string) *Runner { return &Runner{shim: shim, left: map[*process]Left{}} }

// Write writes data with one write(2) to the existing file at path. The error wraps the errno and never quotes data.
func (r *Runner) Write(ctx context.Context, path string, data []byte, opts ...Option) error {
	what := "write to " + path
	a, _, err := r.run(ctx, what, act.Order{Op: act.OpWrite, Path: path, Data: data}, nil, opts)
	switch {
	case err != nil:
		return err
	case a.Errno != 0 && a.Call == "open":
		return fmt.Errorf("open %s: %w", path, unix.Errno(a.Errno))
	case a.Errno == 0 && a.Written != len(data):
		return fmt.Errorf("%s: %d of %d bytes: %w", what, a.Written, len(data), io.ErrShortWrite)
	}
	return answered(what, a)
}

// File is what was found out of a file, and its beginning.
type File = act.File

// Read gives the beginning of the file at path, max bytes of it at most, 65 KiB at most; of what is no regular file, or one that the kernel
// makes up, only what it is. The error wraps the errno and never quotes content.
func (r *Runner) Read(ctx context.Context, path string, max int) (File, error) {
	what := "read " + path
	a, _, err := r.run(ctx, what, act.Order{Op: act.OpRead, Path: path, Max: max}, nil, nil)
	switch {
	case err != nil:
		return File{}, err
	case a.Errno != 0:
		return File{}, fmt.Errorf("%s %s: %w", a.Call, path, unix.Errno(a.Errno))
	case a.File == nil:
		return File{}, fmt.Errorf("%s: the helper sent no file", what)
	}
	return *a.File, nil
}

// Open opens the file at path, which may be a device that holds up the call, with flags as open(2) takes them, and gives it. When the helper
// is left behind, it closes the file when it is open at last. The error wraps the errno.
func (r *Runner) Open(ctx context.Context, path string, flags int) (*os.File, error) {
	what := "open " + path
	a, f, err := r.run(ctx, what, act.Order{Op: act.OpOpen, Path: path, Flags: flags}, nil, nil)
	switch {
	case err != nil:
		return nil, err
	case a.Errno == 0 && f == nil:
		return nil, fmt.Errorf("%s: the helper sent no file", what)
	}
	return f, answered(what, a)
}

// Create is fsmount.Create in a helper, without the step: the caller places the mount with fsmount.Move. When the daemon dies meanwhile
// the mount dies with the helper. Errors are those of fsmount.Create.
func (r *Runner) Create(ctx context.Context, fsType string, opts []fsmount.Option, attrs uint64) (*os.File, error) {
	o := act.Order{Op: act.OpCreate, FSType: fsType, Attrs: attrs}
	var files []*os.File
	for _, opt := range opts {
		o.Options = append(o.Options, act.Option{Key: opt.Key, Value: opt.Value, Flag: opt.Flag, File: opt.File != nil})
		if opt.File != nil {
			files = append(files, opt.File)
		}
	}
	what := "mount " + fsType
	for _, opt := range opts {
		if opt.Key == "source" {
			what += " from " + opt.Value
		}
	}
	return fsmount.Elsewhere(fsType, opts, func(e *fsmount.Error) (*os.File, error) {
		a, mnt, err := r.run(ctx, what, o, files, nil)
		switch {
		case err != nil:
			return nil, err
		case a.Errno == 0 && mnt == nil:
			return nil, fmt.Errorf("%s: the helper sent no mount", what)
		case a.Errno == 0:
			return mnt, nil
		}
		e.Op, e.Messages = a.Call, a.Messages // the words are the same
		if a.Call == act.CallOption && a.Option < len(opts) {
			e.Option = opts[a.Option].String()
		}
		return nil, unix.Errno(a.Errno)
	})
}

// Unmount is umount2(2), once. The error wraps the errno.
func (r *Runner) Unmount(ctx context.Context, dir string, flags int) error {
	what := "unmount " + dir
	a, _, err := r.run(ctx, what, act.Order{Op: act.OpUnmount, Path: dir, Flags: flags}, nil, nil)
	if err != nil {
		return err
	}
	return answered(what, a)
}

// Statfs asks the file system at dir for its figures: one on a server asks that. Any errno is an answer too; the error wraps it.
func (r *Runner) Statfs(ctx context.Context, dir string) error {
	what := "ask the file system at " + dir
	a, _, err := r.run(ctx, what, act.Order{Op: act.OpStatfs, Path: dir}, nil, nil)
	if err != nil {
		return err
	}
	return answered(what, a)
}

// Abort makes the calls that wait for the server of the file system at dir fail, as MNT_FORCE does, and those that begin to wait within so
// long a time. It comes back after that; it leaves the file system mounted, and keeps it busy meanwhile. The error wraps the errno.
func (r *Runner) Abort(ctx context.Context, dir string, within time.Duration) error {
	what := "abort what waits for " + dir
	a, _, err := r.run(ctx, what, act.Order{Op: act.OpAbort, Path: dir, For: within}, nil, nil)
	if err != nil {
		return err
	}
	return answered(what, a)
}

// Sync has the file system at dir write everything, as syncfs(2). The error wraps the errno.
func (r *Runner) Sync(ctx context.Context, dir string) error {
	what := "write what was changed at " + dir
	a, _, err := r.run(ctx, what, act.Order{Op: act.OpSync, Path: dir}, nil, nil)
	if err != nil {
		return err
	}
	return answered(what, a)
}

// closeTimeout bounds the second try of Close.
const closeTimeout = 2 * time.Second

// Close closes f here and, last of all, in a helper: when nothing else holds the mount that f is of, it is the helper that waits for the
// file system to shut down. When there is no helper to be had, also not after ctx has ended, f stays open and the error says so: the
// daemon would wait.
func (r *Runner) Close(ctx context.Context, f *os.File) error {
	err := r.give(ctx, f)
	if isOpen(f) {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = r.give(own, f)
	}
	if isOpen(f) {
		r.mu.Lock()
		r.open = append(r.open, f)
		r.mu.Unlock()
		return fmt.Errorf("%w; it stays open until the daemon ends", err)
	}
	return err
}

// give has a helper close f. It is still open here when no helper came to be.
func (r *Runner) give(ctx context.Context, f *os.File) error {
	what := "close " + f.Name()
	a, _, err := r.run(ctx, what, act.Order{Op: act.OpClose}, []*os.File{f}, []Option{func(s *settings) { s.give = true }})
	if err != nil {
		return err
	}
	return answered(what, a)
}

func isOpen(f *os.File) bool { return f.Fd() != ^uintptr(0) }

func answered(what string, a act.Answer) error {
	if a.Errno == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", what, unix.Errno(a.Errno))
}

// Stuck says that a helper did not even die when it was killed, and was left behind.
type Stuck struct {
	PID   int
	What  string        // what it does
	After time.Duration // since it began
	Where string        // where in the kernel it waits; "" when the kernel does not tell
	cause error
}

func (s *Stuck) Error() string {
	text := fmt.Sprintf("stuck: %s has not come back in %s", s.What, round(s.After))
	if s.Where != "" {
		text += " (waits in " + s.Where + ")"
	}
	return text
}

// Unwrap gives why it was killed: the error of the context.
func (s *Stuck) Unwrap() error { return s.cause }

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// gaveUp is the error when ctx has ended and the helper with it.
func gaveUp(ctx context.Context, what string, after time.Duration) error {
	if ctx.Err() == context.DeadlineExceeded {
		return fault.New(fault.Timeout, "%s: no answer in %s: %w", what, round(after), ctx.Err())
	}
	return fmt.Errorf("%s: %w", what, ctx.Err())
}
