package fsmount_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fsmount"
)

// another is a Process that does what it is told in this one, unless it is to fail.
type another struct {
	err   error
	asked []string
	ended bool // the context that it got had ended
}

func (p *another) Create(ctx context.Context, fsType string, _ []fsmount.Option, _ uint64) (*os.File, error) {
	p.asked, p.ended = append(p.asked, "create "+fsType), ctx.Err() != nil
	return nil, p.err
}

func (p *another) Unmount(ctx context.Context, dir string, flags int) error {
	p.asked, p.ended = append(p.asked, "unmount"), ctx.Err() != nil
	if p.err != nil {
		return fmt.Errorf("unmount %s: %w", dir, p.err)
	}
	return unix.Unmount(dir, flags)
}

func TestUnmountInAnotherProcess(t *testing.T) {
	dir := place(t)
	tmpfs(t, dir)
	for _, errno := range []unix.Errno{unix.EACCES, unix.ENOENT} { // the second is that of a program that cannot be started
		p := &another{err: errno}
		if err := fsmount.Unmount(fsmount.In(t.Context(), p), dir); !errors.Is(err, errno) || len(p.asked) != 1 {
			t.Errorf("refused with %v: %v, asked %v", errno, err, p.asked)
		}
	}
	p := &another{}
	if err := fsmount.Unmount(fsmount.In(t.Context(), p), dir); err != nil || len(p.asked) != 1 {
		t.Errorf("%v, asked %v", err, p.asked)
	}
	if i, err := fsmount.At(dir); err != nil || i != nil {
		t.Errorf("still there is %v, %v", i, err)
	}
}

// Only what reads a device is made there.
func TestCreateInAnotherProcess(t *testing.T) {
	p := &another{err: unix.EIO}
	ctx := fsmount.In(t.Context(), p)
	if _, err := fsmount.Create(ctx, "ext4", []fsmount.Option{{Key: "source", Value: "/dev/rbd0"}}, 0); !errors.Is(err, unix.EIO) {
		t.Errorf("from a device: %v", err)
	}
	mnt, err := fsmount.Create(ctx, "tmpfs", []fsmount.Option{{Key: "size", Value: "1m"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	mnt.Close()
	if len(p.asked) != 1 || p.asked[0] != "create ext4" || p.ended {
		t.Errorf("asked %v, its context had ended: %t", p.asked, p.ended)
	}
}

// brief is held until it has been tried for so long that it is looked who holds it.
type brief struct {
	another
	began time.Time
	last  bool
}

func (p *brief) Unmount(ctx context.Context, dir string, flags int) error {
	switch {
	case p.last:
		return p.another.Unmount(ctx, dir, flags)
	case p.began.IsZero():
		p.began = time.Now()
	}
	p.last = time.Since(p.began) > 400*time.Millisecond
	return unix.EBUSY
}

// Who has let go while it was looked who holds it is no holder: on a busy node a process that is just being started may be one for a while.
func TestWhoLetsGoIsNotNamed(t *testing.T) {
	dir := place(t)
	tmpfs(t, dir)
	p := &brief{}
	if err := fsmount.Unmount(fsmount.In(t.Context(), p), dir); err != nil {
		t.Error(err)
	}
}
