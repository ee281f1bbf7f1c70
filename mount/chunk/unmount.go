package chunk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
)

// Unmount implements mount.Driver. It first unmounts, which needs no server but where reads were left behind, then gives the image back.
// With force, what a server that cannot be reached has open is left to it: List tells of it later. With force too, a FUSE file system whose
// server does not answer is cut off from it, so that those who wait for it get an error and let go.
func (d *Driver) Unmount(ctx context.Context, a mount.Active, force bool) error {
	if force {
		if err := d.cutOff(ctx, a); err != nil {
			return err
		}
	}
	if err := d.unmount(ctx, a); err != nil {
		return err
	}
	err := d.giveBack(ctx, a.ID, a.Target, "")
	if force && unreachable(err) {
		return d.forget(context.WithoutCancel(ctx), a.ID, a.Target) // waiting for the server may have taken all the time there was
	}
	return lingers(err, a)
}

// lingers says of what is unmounted and still used elsewhere that it is not as before, which Busy would mean.
func lingers(err error, a mount.Active) error {
	if !fault.Is(err, fault.Busy) {
		return err
	}
	if at, aerr := fsmount.At(a.Target.Dir); aerr != nil || at != nil {
		return err
	}
	said := fault.New(fault.BadState, "%s is unmounted, and not yet given up everywhere: %w", a.Target.Dir, err)
	return fault.Hintf(said, "%s", fault.HintOf(err))
}

const (
	// lingering is how long the kernel may take to unmount before the server is told, and again each time that this has passed.
	lingering = 300 * time.Millisecond
	// lastTimeout is how long an unmount has after its context has ended: one that finds its mount in use ends with it by itself.
	lastTimeout = time.Second
)

// unmount unmounts the target. An EROFS whose readers were killed while no origin answered waits, once it is out of the tree, for what they
// were about to read. Nobody else can be waiting for it then, so the server gives it up.
func (d *Driver) unmount(ctx context.Context, a mount.Active) error {
	at, err := fsmount.At(a.Target.Dir)
	if err != nil || at == nil || isFUSE(at) {
		return errors.Join(err, fsmount.Unmount(ctx, a.Target.Dir))
	}
	done := make(chan error, 1)
	go func() { done <- fsmount.Unmount(ctx, a.Target.Dir) }()
	tick := time.NewTicker(lingering)
	defer tick.Stop()
	ended, last := ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			if now, err := fsmount.At(a.Target.Dir); err == nil && (now == nil || now.ID != at.ID) {
				_ = d.cfg.Starter.Client().Abandon(ctx, name(a.ID)) // of mode direct it knows no reads
			}
		case <-ended:
			ended, last = nil, time.After(lastTimeout)
		case <-last:
			return fault.New(fault.Timeout, "unmount %s: the kernel has not ended it: %w", a.Target.Dir, context.Cause(ctx))
		}
	}
}

// unreachable reports whether a server has not answered, or could not be started.
func unreachable(err error) bool {
	return fault.Is(err, fault.Unavailable) || fault.Is(err, fault.Timeout)
}

// cutOffTimeout is how long a server has to show that it lives, or half of the time that there is: the rest is for cutting it off.
const cutOffTimeout = 5 * time.Second

// cutOff aborts the FUSE connection of a mount in mode fuse when its server does not answer.
func (d *Driver) cutOff(ctx context.Context, a mount.Active) error {
	at, err := fsmount.At(a.Target.Dir)
	if err != nil || at == nil || !isFUSE(at) {
		return err
	}
	limit := cutOffTimeout
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/2)
	}
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	server, err := d.cfg.Starter.Server(short)
	answers := err == nil
	if answers {
		_, err = server.Stats(short, name(a.ID))
		answers = !errors.Is(err, control.ErrNoServer) && !fault.Is(err, fault.Timeout)
	}
	if answers || ctx.Err() != nil {
		return ctx.Err()
	}
	return step.Do(ctx, "chunkfs.abort", func(context.Context) error {
		// It aborts the connection, and unmounts when nobody has anything open.
		err := unix.Unmount(a.Target.Dir, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("abort the FUSE connection of mount %d: %w", a.ID, err)
		}
		return nil
	})
}
