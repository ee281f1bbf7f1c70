package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// errNotDir is what the kernel says of a path through a file.
const errNotDir = unix.ENOTDIR

const (
	shared    = unix.LOCK_SH
	exclusive = unix.LOCK_EX
)

// locked does fn while the store's lock is held. Every call has a descriptor of its own, so that goroutines exclude each other as
// processes do.
func (s *Store) locked(ctx context.Context, how int, fn func() error) error {
	f, err := s.openLock()
	if err != nil {
		return err
	}
	if err := flock(ctx, f, how); err != nil {
		return fmt.Errorf("lock the store %s: %w", s.dir, err)
	}
	defer f.Close()
	return fn()
}

func (s *Store) openLock() (*os.File, error) {
	f, err := os.OpenFile(s.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // a store that was copied without its leases
		if err = makeDirs(s.path(formerDir), 0o700); err == nil {
			f, err = os.OpenFile(s.path(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
		}
	}
	if err != nil {
		err = fmt.Errorf("change the store %s: %w", s.dir, err)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			return nil, fault.Hintf(fault.New(fault.Forbidden, "%w", err), "only the store's owner can, on a file system that is writable")
		}
		return nil, err
	}
	return f, nil
}

// flock waits for the lock until ctx ends; f is closed then. The lock goes when f is closed.
func flock(ctx context.Context, f *os.File, how int) error {
	err := tryFlock(f, how|unix.LOCK_NB)
	if !errors.Is(err, unix.EWOULDBLOCK) {
		if err != nil {
			f.Close()
		}
		return err
	}
	got := make(chan error, 1)
	go func() { got <- tryFlock(f, how) }()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
		}
		return err
	case <-ctx.Done():
		go func() { // the kernel still waits in our name
			<-got
			f.Close()
		}()
		return ctx.Err()
	}
}

func tryFlock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
