package rbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/holders"
	"github.com/windlass-hpc/windlass/internal/step"
)

// releaseWait is how long it may take to remove the file of a holder, which is a moment.
const releaseWait = time.Second

// How long Detach waits for those who have the device open: udev and its like look at every device.
const (
	detachWait = 2 * time.Second
	forceWait  = 100 * time.Millisecond
)

// Detach takes the ID off the holders of its device. When it is the last of them, the device is unmapped before.
func (d *Driver) Detach(ctx context.Context, dev attach.Device, force bool) error {
	keys, err := d.keysOf(dev.ID)
	if err != nil {
		return fmt.Errorf("detach rbd %d: %w", dev.ID, err)
	}
	wait := detachWait
	if force {
		wait = forceWait
	}
	for _, key := range keys {
		if err := d.letGo(ctx, key, dev.ID, wait); err != nil {
			return err
		}
	}
	d.tidy()
	return nil
}

func (d *Driver) letGo(ctx context.Context, key string, id attach.ID, wait time.Duration) error {
	h := readHolder(d.dir(key), id)
	g, err := d.lock(ctx, key)
	if err != nil {
		return explainLock(err, "unmap %s", h.name())
	}
	defer g.unlock()
	others, err := g.others(id)
	if err != nil {
		return fmt.Errorf("unmap %s: %w", h.name(), err)
	}
	if len(others) == 0 {
		if err := d.unmapAll(ctx, g, key, removal{holder: h, wait: wait, force: h.Force}); err != nil {
			return err
		}
	}
	// The time may have passed just as the device went.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWait)
	defer cancel()
	return g.release(ctx, id)
}

// unmap takes one device away; when it is gone already that is success.
func (d *Driver) unmap(ctx context.Context, m mapped, keep *os.File, o removal) error {
	err := step.Do(ctx, "rbd.unmap", func(ctx context.Context) error { return d.removeUnused(ctx, m, keep, o) })
	var stuck *helper.Stuck
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.EBUSY):
		err := fault.New(fault.Busy, "unmap %s of %s: it is in use by %s (%w)", m.path(), o.holder.name(), holders.Text(holders.OfDevice(m.devnum)), err)
		return fault.Hintf(err, "unmount it, or stop the processes that have it open, then try again")
	case errors.As(err, &stuck), errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.EINPROGRESS):
		if now, lerr := d.mappedAs(m.mark.key); lerr == nil && !contains(now, m) && stuck == nil {
			return nil
		}
		err = fault.New(fault.Timeout, "stuck: unmap %s of %s: %w", m.path(), o.holder.name(), err)
		return fault.Hintf(err, "%s", outstanding(o.holder))
	}
	return fmt.Errorf("unmap %s of %s: %w", m.path(), o.holder.name(), err)
}

// removeUnused has the kernel remove the device, and waits for those who have it open.
func (d *Driver) removeUnused(ctx context.Context, m mapped, keep *os.File, o removal) error {
	deadline := time.Now().Add(o.wait)
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := d.remove(ctx, m, false, keep)
		switch {
		// EINPROGRESS: somebody else removes it, and it will be gone.
		case !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINPROGRESS):
			return err
		case time.Now().Before(deadline):
		case errors.Is(err, unix.EBUSY) && o.force:
			return d.remove(ctx, m, true, keep)
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(pause):
		}
	}
}

// outstanding says what becomes of requests that the cluster does not answer.
func outstanding(h holder) string {
	if h.RequestTimeout == 0 {
		return "osd_request_timeout is 0: the requests in flight wait until the cluster answers"
	}
	return fmt.Sprintf("the requests in flight fail after osd_request_timeout, %d s, if the cluster does not answer until then", h.RequestTimeout)
}
