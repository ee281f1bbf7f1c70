package nfs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/holders"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
)

const (
	// busyTimeout is how long a busy mount is tried again: the files of a process that has just died go a moment later.
	busyTimeout = 400 * time.Millisecond
	// answerTimeout is how long a server has to say that it is there. Abort may take 2 s with all that it does.
	answerTimeout = 1800 * time.Millisecond
	// forceTimeout bounds one try of a forced unmount.
	forceTimeout = 700 * time.Millisecond
	// mostForcing bounds how many helpers wait that were to unmount by force.
	mostForcing = 2
)

// Unmount takes it away. With force it goes even when the server does not answer: what waits for it fails, and what still holds the mount
// then keeps a file system that is nowhere any more.
func (d *Driver) Unmount(ctx context.Context, a mount.Active, force bool) error {
	back := d.watch.leave(a.ID) // asking the server keeps the mount busy
	err := d.unmount(ctx, a.Target.Dir, force)
	if err != nil {
		back()
		return err
	}
	d.watch.remove(a.ID)
	return nil
}

func (d *Driver) unmount(ctx context.Context, dir string, force bool) error {
	for range 64 {
		i, err := at(dir)
		if err != nil {
			return err
		}
		if i == nil {
			return d.finished(dir, force)
		}
		err = step.Do(ctx, "nfs.unmount", func(ctx context.Context) error {
			if force && isNFS(i) {
				return d.force(ctx, dir, i)
			}
			return d.unmountOne(ctx, dir, i)
		})
		if err != nil {
			return err
		}
	}
	return fault.New(fault.Busy, "unmount %s: it is mounted again and again", dir)
}

// finished is success, unless a helper of before still waits: then data may be on its way to the server.
func (d *Driver) finished(dir string, force bool) error {
	if force {
		return nil
	}
	return d.waits(dir, "")
}

// waits is the error of an unmount that a helper of before has not come back from; nil when there is none. Another would not come back either.
func (d *Driver) waits(dir, address string) error {
	for _, l := range d.helper.LeftAt(dir, helper.OpUnmount, helper.OpSync) {
		return stuck(dir, address, time.Since(l.Since), l.Where)
	}
	return nil
}

func (d *Driver) unmountOne(ctx context.Context, dir string, i *mountinfo.Info) error {
	began := time.Now()
	if err := d.waits(dir, addressOf(i)); err != nil {
		return err
	}
	if err := d.save(ctx, dir, i); err != nil {
		return err
	}
	busySince, alone := time.Now(), d.watch.failsAlone(i, addressOf(i))
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := d.helper.Unmount(ctx, dir, unix.UMOUNT_NOFOLLOW)
		said := answered(err, alone)
		switch {
		case err == nil || gone(dir) && said:
			return nil
		case ctx.Err() != nil && !said:
			return stuckBy(dir, addressOf(i), time.Since(began), err)
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("nfs: %w", err)
		case time.Since(busySince) > busyTimeout:
			return busy(dir, i)
		}
		select {
		case <-ctx.Done():
			return errors.Join(busy(dir, i), ctx.Err())
		case <-time.After(pause):
		}
	}
}

// save has everything written that was changed through a mapping: what was closed is on the server already, but this would be left to be
// written at some later time, by a file system that is nowhere any more.
func (d *Driver) save(ctx context.Context, dir string, i *mountinfo.Info) error {
	if !isNFS(i) || fsmount.ReadOnly(i) {
		return nil
	}
	began := time.Now()
	err := d.helper.Sync(ctx, dir)
	var errno unix.Errno
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && !answered(err, d.watch.failsAlone(i, addressOf(i))):
		return stuckBy(dir, addressOf(i), time.Since(began), err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EIO), errors.Is(err, unix.EFBIG):
		errors.As(err, &errno)
		return fault.Hintf(fault.New(fault.Backend, "unmount %s: the server has not taken all that was written: %w", dir, errno), "it is lost; unmount again")
	}
	return nil // of a directory that cannot be opened nothing can be said; unmounting goes on
}

func gone(dir string) bool {
	i, err := at(dir)
	return err == nil && i == nil
}

// busy names who holds the mount. It reads /proc alone, and asks no server.
func busy(dir string, i *mountinfo.Info) error {
	by := holders.Text(holders.OfMount(uint64(i.ID), dir))
	return fault.Hintf(fault.New(fault.Busy, "unmount %s: it is in use by %s", dir, by), "end what holds it and try again")
}

func stuckBy(dir, address string, after time.Duration, err error) error {
	where := ""
	var s *helper.Stuck
	if errors.As(err, &s) {
		where = s.Where
	}
	return stuck(dir, address, after, where)
}

// stuck is the error of an unmount that has not come back.
func stuck(dir, address string, after time.Duration, where string) error {
	text := fmt.Sprintf("stuck: unmounting %s has not come back in %s", dir, seconds(after))
	if address != "" {
		text += ": " + address + " does not answer"
	}
	if where != "" {
		text += " (waits in " + where + ")"
	}
	return fault.Hintf(fault.New(fault.Timeout, "%s", text), "bring the server back, or delete it with force: what is not written yet is lost then")
}

// force unmounts i, whether its server answers or not. One whose server does is treated as ever. What waits is made to fail first: once the
// mount is nowhere, nothing could.
func (d *Driver) force(ctx context.Context, dir string, i *mountinfo.Info) error {
	began := time.Now()
	if d.answers(ctx, dir, i) {
		return d.unmountOne(ctx, dir, i)
	}
	var err error
	if len(d.helper.LeftAt(dir, helper.OpAbort)) == 0 {
		aborting, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		err = d.helper.Abort(aborting, dir, forceTimeout)
	}
	for _, flags := range []int{unix.MNT_FORCE, unix.MNT_DETACH} {
		if gone(dir) {
			return nil
		}
		if len(d.helper.LeftAt(dir, helper.OpUnmount)) >= mostForcing {
			return d.waits(dir, addressOf(i))
		}
		err = d.try(ctx, dir, flags)
	}
	switch {
	case gone(dir):
		return nil
	case answered(err, true):
		return fmt.Errorf("nfs: %w", err)
	}
	return stuckBy(dir, addressOf(i), time.Since(began), err)
}

func (d *Driver) try(ctx context.Context, dir string, flags int) error {
	ctx, cancel := context.WithTimeout(ctx, forceTimeout)
	defer cancel()
	return d.helper.Unmount(ctx, dir, flags|unix.UMOUNT_NOFOLLOW)
}

// answers says whether the server of i, mounted at dir, answers within answerTimeout. One that is known to be silent is not asked.
func (d *Driver) answers(ctx context.Context, dir string, i *mountinfo.Info) bool {
	address := addressOf(i)
	if d.watch.silentFor(address) >= answerTimeout || d.watch.unanswered(dir) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := d.helper.Statfs(ctx, dir)
	return answered(err, d.watch.failsAlone(i, address))
}

// errRestart is what a call that was aborted gives with older kernels, to which it should never show; EIO with newer ones.
const errRestart = unix.Errno(512)

// answered says whether err is what a server, or the kernel without asking one, says. With failsAlone an EIO is not.
func answered(err error, failsAlone bool) bool {
	if err == nil {
		return true
	}
	var errno unix.Errno
	if !errors.As(err, &errno) || errors.Is(err, helper.ErrStart) {
		return false
	}
	return !silent(err) && !unreachable(err) && errno != errRestart && !(errno == unix.EIO && failsAlone)
}
