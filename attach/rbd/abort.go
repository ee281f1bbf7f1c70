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
	"github.com/windlass-hpc/windlass/internal/step"
)

const (
	// abortWatch is how long a device is watched that has requests in flight.
	abortWatch = 2 * time.Second
	// abortLook is how often.
	abortLook = 50 * time.Millisecond
	// abortGo is how long the kernel is given to take the order: it comes back from it only when the requests in flight have failed.
	abortGo = 100 * time.Millisecond
)

// Abort removes a device by force whose requests are not answered, from all who share it. Those in flight fail when osd_request_timeout
// has passed since they were made; until then new ones wait, then they fail at once, and the device is gone.
func (d *Driver) Abort(ctx context.Context, dev attach.Device) (aborted bool, err error) {
	keys, err := d.keysOf(dev.ID)
	if err != nil {
		return false, fmt.Errorf("abort rbd %d: %w", dev.ID, err)
	}
	for _, key := range keys {
		all, err := d.mappedAs(key)
		if err != nil {
			return aborted, fmt.Errorf("abort rbd %d: %w", dev.ID, err)
		}
		for _, m := range all {
			if d.answers(ctx, m.number) || ctx.Err() != nil {
				continue
			}
			aborted = true
			if err := d.abort(ctx, m, readHolder(d.dir(key), dev.ID)); err != nil {
				return aborted, err
			}
		}
	}
	return aborted, nil
}

// answers watches a device with requests in flight until one completes, or none is left; when none does in time, it does not answer.
func (d *Driver) answers(ctx context.Context, number int64) bool {
	start := time.Now()
	first, ok := d.sample(number, start)
	if d.waits(number, first) {
		return false
	}
	for ok && first.inFlight > 0 {
		if time.Since(start) >= abortWatch {
			return false
		}
		select {
		case <-ctx.Done():
			return true // it is not known
		case <-time.After(abortLook):
		}
		var next sample
		if next, ok = d.sample(number, time.Now()); next.inFlight == 0 || next.completed != first.completed {
			return true
		}
	}
	return true
}

// waits says whether it is known from earlier samples that a device does not answer.
func (d *Driver) waits(number int64, now sample) bool {
	d.fares.mu.Lock()
	last, ok := d.fares.samples[number]
	d.fares.mu.Unlock()
	return ok && now.inFlight > 0 && last.inFlight > 0 && now.completed == last.completed && now.since.Sub(last.since) >= abortWatch
}

func (d *Driver) abort(ctx context.Context, m mapped, h holder) error {
	// It tells all who come, to a daemon after this one as well, that the device still goes.
	going, err := tryGoing(d.dir(m.mark.key))
	if err != nil {
		return fmt.Errorf("abort what waits for %s: %w", m.path(), err)
	}
	if going == nil {
		return d.endless(m, h)
	}
	defer going.Close()
	err = step.Do(ctx, "rbd.abort", func(ctx context.Context) error { return d.force(ctx, m, going) })
	switch {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINPROGRESS):
	default:
		return fmt.Errorf("abort what waits for %s: %w", m.path(), err)
	}
	return d.endless(m, h)
}

// endless is the error when nothing but the cluster can end the requests in flight of a device that goes.
func (d *Driver) endless(m mapped, h holder) error {
	if h.RequestTimeout == 0 {
		if now, err := d.mappedAs(m.mark.key); err == nil && contains(now, m) {
			err := fault.New(fault.Timeout, "stuck: what waits for %s of %s cannot be made to fail", m.path(), h.name())
			return fault.Hintf(err, "%s", outstanding(h))
		}
	}
	return nil
}

// force gives the order. A helper that does not come back has given it: it waits for the requests in flight, and is left behind.
func (d *Driver) force(ctx context.Context, m mapped, going *os.File) error {
	own, cancel := context.WithTimeout(ctx, abortGo)
	defer cancel()
	err := d.remove(own, m, true, going)
	var stuck *helper.Stuck
	if errors.As(err, &stuck) {
		return nil
	}
	return err
}
