package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// slot waits until one more emulated machine may run on this computer, in the queue of test/vm, and keeps the place until free is called.
func slot(ctx context.Context, cache string) (free func(), err error) {
	queue, err := inLine(ctx, filepath.Join(cache, "guest.queue.lock"))
	if err != nil {
		return nil, err
	}
	defer queue.Close()
	for ; ; time.Sleep(100 * time.Millisecond) { // the kernel cannot wait for one of two locks
		for n := range 2 {
			f, err := lockFile(filepath.Join(cache, fmt.Sprintf("guest.%d.lock", n)))
			if err != nil {
				return nil, err
			}
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				return func() { f.Close() }, nil
			}
			f.Close()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// inLine waits for the lock of the queue, in the kernel, where those who wait come in turn.
func inLine(ctx context.Context, name string) (*os.File, error) {
	f, err := lockFile(name)
	if err != nil {
		return nil, err
	}
	got := make(chan error, 1)
	go func() { got <- unix.Flock(int(f.Fd()), unix.LOCK_EX) }()
	select {
	case err = <-got:
	case <-ctx.Done():
		return nil, ctx.Err() // the lock goes with this program
	}
	return f, err
}

func lockFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
}
