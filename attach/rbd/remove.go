package rbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/helper"
)

// removal is how a device is to be unmapped.
type removal struct {
	holder holder
	wait   time.Duration // for those who have it open
	force  bool          // take it from those who have it open
}

// unmapAll unmaps what there is of the key, which is one device as a rule.
func (d *Driver) unmapAll(ctx context.Context, g *group, key string, o removal) error {
	all, err := d.mappedAs(key)
	if err != nil {
		return err
	}
	for _, m := range all {
		if err := d.unmap(ctx, m, g.file, o); err != nil {
			return err
		}
	}
	return nil
}

// orderGrace is how long the kernel has to carry out an order after ctx has ended. One that is cut short leaves a watch on the image, on
// account of which the cluster takes it for used for half a minute.
const orderGrace = 500 * time.Millisecond

// order writes to a file of sysfs, in a helper.
func (d *Driver) order(ctx context.Context, path, text string, keep ...*os.File) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(orderGrace, cancel) })
	defer stop()
	err := d.write(own, path, []byte(text), keep...)
	var stuck *helper.Stuck
	if err != nil && own.Err() != nil && !errors.As(err, &stuck) {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return err
}

// remove tells the kernel to unmap a device.
func (d *Driver) remove(ctx context.Context, m mapped, force bool, keep ...*os.File) error {
	path, err := d.control("remove")
	if err != nil {
		return err
	}
	// The number may be another's by now.
	if now, err := d.mappedAs(m.mark.key); err != nil || !contains(now, m) {
		return errors.Join(err, unix.ENOENT)
	}
	order := fmt.Sprintf("%d", m.number)
	if force {
		order += " force"
	}
	return d.order(ctx, path, order, keep...)
}

func contains(all []mapped, m mapped) bool {
	for _, other := range all {
		if other.number == m.number && other.mark == m.mark {
			return true
		}
	}
	return false
}
