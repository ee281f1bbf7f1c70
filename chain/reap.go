package chain

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
)

// reap takes away what the kernel has under our names without a record: containers, then mounts, then devices. It should never find
// anything, since records go last; it is the net below. What belongs to a record that could not be read stays.
func (c *Chain) reap(ctx context.Context) {
	if c.cfg.Process != nil { // nobody knows what it lies on
		ctx = fsmount.In(ctx, c.cfg.Process)
	}
	c.reapContainers(ctx)
	for _, kind := range c.cfg.Mount.Kinds() {
		c.reapKept(ctx, kind)
	}
	for _, dir := range []string{c.dir.Mounts(), c.dir.Scratches()} {
		c.reapMounts(ctx, dir)
	}
	for _, kind := range c.cfg.Attach.Kinds() {
		c.reapDevices(ctx, kind)
	}
}

// known reports whether a record stands for id, readable or not.
func (c *Chain) known(id ID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.objects[id] != nil || c.bad[id] != nil
}

// reapOne takes something away, and leaves that to go on by itself when it takes long: what lies on dead storage must not keep the rest.
func (c *Chain) reapOne(ctx context.Context, what string, id ID, take func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.UndoTimeout)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		c.reaped(what, id, guarded(ctx, take))
	}()
	late := time.NewTimer(reapWait)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		c.log.WithFields(logrus.Fields{"obj": id, "what": what}).Warn("found without a record; taking it away takes its time")
	}
}

// reapWait is how long the rest waits for one.
const reapWait = 2 * time.Second

func (c *Chain) reaped(what string, id ID, err error) {
	entry := c.log.WithFields(logrus.Fields{"obj": id, "what": what})
	if err != nil {
		entry.WithError(err).Error("found without a record; it could not be taken away")
		return
	}
	entry.Warn("found without a record and taken away")
}

func (c *Chain) reapContainers(ctx context.Context) {
	if c.cfg.Runtime == nil {
		return
	}
	ids, err := c.cfg.Runtime.List(ctx)
	if err != nil {
		c.log.WithError(err).Error("the runtime cannot say what there is")
		return
	}
	for _, id := range ids {
		if !c.known(id) {
			c.reapOne(ctx, "container", id, func(ctx context.Context) error { return c.cfg.Runtime.Remove(ctx, id) })
		}
	}
}

// reapKept takes away what a driver keeps of mounts elsewhere than in the run directory, those mounts included.
func (c *Chain) reapKept(ctx context.Context, kind string) {
	d, _ := c.cfg.Mount.Driver(kind)
	lister, ok := d.(mount.Lister)
	if !ok {
		return
	}
	ids, err := lister.List(ctx)
	if err != nil {
		c.log.WithField("driver", kind).WithError(err).Error("the driver cannot say what there is")
		return
	}
	for _, id := range ids {
		if c.known(id) {
			continue
		}
		target := mount.Target{Dir: c.dir.Mount(int64(id)), Scratch: c.dir.Scratch(int64(id))}
		c.reapOne(ctx, kind, id, func(ctx context.Context) error { return d.Unmount(ctx, mount.Active{ID: id, Target: target}, true) })
	}
}

// reapMounts unmounts what is mounted in the directories of dir that no record stands for, and removes them.
func (c *Chain) reapMounts(ctx context.Context, dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		c.log.WithError(err).Error("the run directory cannot be read")
		return
	}
	for _, e := range entries {
		id, ok := rundir.ID(e.Name())
		if !ok || c.known(ID(id)) {
			continue
		}
		c.reapOne(ctx, "mount", ID(id), func(ctx context.Context) error { return reapMount(ctx, filepath.Join(dir, e.Name())) })
	}
}

var errStillMounted = errors.New("something is still mounted below it")

func reapMount(ctx context.Context, dir string) error {
	mounted, err := mountinfo.Below(dir)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounted) {
		if err := fsmount.Unmount(ctx, m.Mountpoint); err != nil {
			return err
		}
	}
	if mounted, err = mountinfo.Below(dir); err != nil || len(mounted) > 0 { // never delete through a mount
		return errors.Join(err, errStillMounted)
	}
	return step.Do(ctx, "mountpoint.reap", func(context.Context) error { return os.RemoveAll(dir) })
}

func (c *Chain) reapDevices(ctx context.Context, kind string) {
	d, _ := c.cfg.Attach.Driver(kind)
	devices, err := d.List(ctx)
	if err != nil {
		c.log.WithField("driver", kind).WithError(err).Error("the driver cannot say what there is")
		return
	}
	for _, dev := range devices {
		if !c.known(dev.ID) {
			c.reapOne(ctx, kind, dev.ID, func(ctx context.Context) error { return d.Detach(ctx, dev, true) })
		}
	}
}

// removeRecord deletes the record of an object that is not listed.
func removeRecord(ctx context.Context, dir rundir.Dir, id ID) error {
	err := durable.Remove(ctx, dir.Record(int64(id)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
