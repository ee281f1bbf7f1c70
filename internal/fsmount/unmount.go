package fsmount

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/holders"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/step"
)

// busyTimeout is how long a busy mount is tried again: the files of a process that has just died go a moment later.
const busyTimeout = 400 * time.Millisecond

// Unmount takes away what is mounted at target, all of it when mounts are stacked there. Nothing mounted there, or no such path, is
// success. In use: Busy, naming who holds it. It follows no link and is never lazy. The stage is "mount.unmount", once a mount.
func Unmount(ctx context.Context, target string) error {
	for range 1024 { // against somebody who mounts as fast as we unmount
		mounted, err := isMountpoint(target)
		if err != nil {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
		if !mounted {
			return nil
		}
		err = step.Do(ctx, "mount.unmount", func(ctx context.Context) error { return unmountOne(ctx, target) })
		if err != nil {
			return err
		}
	}
	return fault.New(fault.Busy, "unmount %s: it is mounted again and again", target)
}

func unmountOne(ctx context.Context, target string) error {
	deadline := time.Now().Add(busyTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unmountIn(ctx, target)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // somebody was faster, or it cannot be unmounted
			if mounted, merr := isMountpoint(target); merr == nil && !mounted {
				return nil
			}
			return wrap(err, "unmount %s", target)
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EBUSY):
			return wrap(err, "unmount %s", target)
		}
		if err := patience(ctx, target, deadline, pause); err != nil {
			if ctx.Err() == nil && unmountIn(ctx, target) == nil { // who held it went while it was looked for
				return nil
			}
			return err
		}
	}
}

// patience lets a pause pass before the next look at what is busy now; the error says that there is to be none.
func patience(ctx context.Context, target string, deadline time.Time, pause time.Duration) error {
	if time.Now().After(deadline) {
		return busy(target)
	}
	select {
	case <-ctx.Done():
		return errors.Join(busy(target), ctx.Err())
	case <-time.After(pause):
		return nil
	}
}

func busy(target string) error {
	by := holders.Text(nil)
	if id, err := mountinfo.ID(target); err == nil {
		by = holders.Text(holders.OfMount(id, target))
	}
	return fault.Hintf(fault.New(fault.Busy, "unmount %s: it is in use by %s", target, by), "end what holds it and try again")
}

// CheckIdle gives an error of kind Busy when what is mounted at target is in use, and changes nothing. Nothing mounted there is
// success. It looks at one mount, so anything mounted below counts as use.
func CheckIdle(ctx context.Context, target string) error {
	deadline := time.Now().Add(busyTimeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		mounted, err := isMountpoint(target) // also takes off the mark that an earlier MNT_EXPIRE left
		if err != nil || !mounted {
			return err
		}
		// MNT_EXPIRE of an idle mount only marks it, and says EAGAIN; a second one without a look in between would unmount.
		err = unix.Unmount(target, unix.MNT_EXPIRE|unix.UMOUNT_NOFOLLOW)
		if _, serr := mountinfo.ID(target); serr != nil {
			return serr
		}
		switch {
		case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR):
			return wrap(err, "look whether %s is in use", target)
		}
		if err := patience(ctx, target, deadline, pause); err != nil {
			return err
		}
	}
}
