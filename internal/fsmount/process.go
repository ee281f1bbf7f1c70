package fsmount

import (
	"context"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Process makes and unmounts in a process of its own (internal/helper). A thread of the daemon that waits in the kernel for storage that
// does not answer would keep a daemon that was killed from ending, and with its lock and its port the next one from starting.
type Process interface {
	// Create is as Create, without the step.
	Create(ctx context.Context, fsType string, opts []Option, attrs uint64) (*os.File, error)
	// Unmount is umount2(2). The error wraps the errno.
	Unmount(ctx context.Context, dir string, flags int) error
}

type processKey struct{}

// In has Unmount, and Create from a device, do with the context that it gives their work in p. They still come back when the kernel does,
// and not when ctx ends: until then nobody may take it that the work is done. With nil they do it themselves.
func In(ctx context.Context, p Process) context.Context {
	return context.WithValue(ctx, processKey{}, p)
}

func process(ctx context.Context) Process {
	p, _ := ctx.Value(processKey{}).(Process)
	return p
}

// createIn is create, in a process where one is given and a device is read. Other options may name files of this process.
func createIn(ctx context.Context, fsType string, opts []Option, attrs uint64) (*os.File, error) {
	if p := process(ctx); p != nil && strings.HasPrefix(source(opts), "/dev/") {
		return p.Create(context.WithoutCancel(ctx), fsType, opts, attrs)
	}
	return create(fsType, opts, attrs)
}

// unmountIn is umount2(2).
func unmountIn(ctx context.Context, target string) error {
	p := process(ctx)
	if p == nil {
		return unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	}
	err := p.Unmount(context.WithoutCancel(ctx), target, unix.UMOUNT_NOFOLLOW)
	if errno := unix.Errno(0); errors.As(err, &errno) { // what else it says is said by the caller
		return errno
	}
	return err
}
