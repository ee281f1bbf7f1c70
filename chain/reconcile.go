package chain

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// probeTimeout bounds how long one object may keep the daemon from starting.
const probeTimeout = 5 * time.Second

// reconcile brings the records and the node together when the daemon starts:
//
//  1. records of an earlier boot are dropped: what they promised died with it;
//  2. the objects and their holders are made from the records;
//  3. the kernel is asked about each object: what is there is adopted, what has gone is raised again or marked lost;
//  4. what was being raised or taken down, and what nobody holds, is taken down;
//  5. what the kernel has under our names without a record is reaped.
func (c *Chain) reconcile(ctx context.Context, boot string) error {
	if c.seq.kept.Boot != boot {
		if err := c.forgetBoot(ctx, boot); err != nil {
			return err
		}
	}
	records, bad, err := loadRecords(c.dir)
	if err != nil {
		return err
	}
	c.bad = bad
	for id, err := range bad {
		c.log.WithField("obj", id).WithError(err).Error("a record cannot be read; what it stands for is left alone")
	}
	objects := c.restore(records)
	c.probeAll(ctx, objects)
	c.resume(ctx, objects)
	c.reap(ctx)
	c.log.WithFields(logrus.Fields{"records": len(records), "objects": len(c.objects)}).Info("reconciled")
	return nil
}

// forgetBoot removes what an earlier boot left in a run directory that outlived it.
func (c *Chain) forgetBoot(ctx context.Context, boot string) error {
	records, bad, err := loadRecords(c.dir)
	if err != nil {
		return err
	}
	c.log.WithField("records", len(records)+len(bad)).Warn("the run directory is of an earlier boot; its records are dropped")
	for _, r := range records {
		if err := removeRecord(ctx, c.dir, r.ID); err != nil {
			return err
		}
	}
	for id := range bad {
		if err := removeRecord(ctx, c.dir, id); err != nil {
			return err
		}
	}
	c.seq.kept.Boot = boot // written with the numbers, before the first of them is given
	return nil
}

// restore makes the objects and who holds them. A record below is older than those above it, so ids grow upwards.
func (c *Chain) restore(records []*record) []*object {
	c.mu.Lock()
	defer c.mu.Unlock()
	objects := make([]*object, 0, len(records))
	for _, r := range records {
		o := r.object(c.cfg.OnStep)
		c.objects[o.id] = o
		objects = append(objects, o)
		if n := o.name(); n != "" {
			c.names[n] = o
		}
	}
	for _, o := range objects {
		for _, b := range o.below {
			if child := c.objects[b.ID]; child != nil {
				child.over[o.id] = o.kind
			}
		}
	}
	return objects
}

// probeAll asks the kernel about every object, all at once: one that hangs must not hold up the others.
func (c *Chain) probeAll(ctx context.Context, objects []*object) {
	var wg sync.WaitGroup
	for _, o := range objects {
		if o.phase != Ready && o.phase != Lost {
			continue
		}
		wg.Go(func() {
			if err := c.probe(ctx, o); err != nil {
				c.update(o, func() { o.err = err.Error() })
			}
		})
	}
	wg.Wait()
	for _, o := range objects { // from below: what lies on it can only be raised again after it
		if o.phase == Lost && o.kind != KindContainer && !o.replaced {
			c.redo(ctx, o)
		}
	}
}

// probe asks the kernel about one object.
func (c *Chain) probe(ctx context.Context, o *object) error {
	return c.call(ctx, o, "probe", probeTimeout, func(ctx context.Context) error {
		switch o.kind {
		case KindAttach:
			return c.probeAttach(ctx, o)
		case KindMount:
			return c.probeMount(ctx, o)
		default:
			return c.probeContainer(ctx, o)
		}
	})
}

func (c *Chain) probeAttach(ctx context.Context, o *object) error {
	d, ok := c.cfg.Attach.Driver(string(o.attach.Kind))
	if !ok {
		return noDriver("attach", string(o.attach.Kind), c.cfg.Attach.Kinds())
	}
	dev, state, err := d.Probe(ctx, o.id, c.attachSpec(o))
	if err != nil {
		return fmt.Errorf("probe %s: %w", o, err)
	}
	c.update(o, func() {
		switch was := o.device; {
		case state != attach.Ready:
			o.phase, o.err = Lost, "its device has gone without us"
			return
		case was.Path != "" && (was.DevNum != dev.DevNum || was.Number != dev.Number):
			o.phase, o.err, o.replaced = Lost, "another device has its name now", true
			return
		}
		o.phase, o.err, o.device = Ready, "", dev
	})
	return nil
}

func (c *Chain) probeMount(ctx context.Context, o *object) error {
	d, ok := c.cfg.Mount.Driver(string(o.mount.Kind))
	if !ok {
		return noDriver("mount", string(o.mount.Kind), c.cfg.Mount.Kinds())
	}
	active, state, err := d.Probe(ctx, o.id, c.mountSpec(o), c.target(o))
	if err != nil {
		return fmt.Errorf("probe %s: %w", o, err)
	}
	c.update(o, func() {
		if state != mount.Ready {
			o.phase, o.err = Lost, "it was unmounted without us"
			return
		}
		o.phase, o.err, o.active = Ready, "", active
	})
	return nil
}

// probeContainer adopts a container and follows it on. One that was stopping goes on to stop.
func (c *Chain) probeContainer(ctx context.Context, o *object) error {
	status, err := c.cfg.Runtime.Status(ctx, o.id)
	if err != nil {
		return fmt.Errorf("probe %s: %w", o, err)
	}
	stopping := false
	c.update(o, func() {
		o.ctr.follow(status)
		stopping = o.ctr.State == models.ContainerStateStopping
	})
	c.keep(o)
	if status.State == container.Running || status.State == container.Paused {
		c.watch(o)
	}
	if stopping {
		c.wg.Go(func() { c.seeEnd(o, false) })
	}
	return nil
}

// redo raises again what has gone without us, when all that it lies on is there.
func (c *Chain) redo(ctx context.Context, o *object) {
	for _, b := range o.below {
		if child := c.objects[b.ID]; child == nil || child.phase != Ready {
			return
		}
	}
	lost := o.err
	err := c.lower(step.With(ctx, o.steps), o, false)
	if err == nil {
		err = c.raiseOne(ctx, o)
	}
	c.update(o, func() {
		if err != nil {
			o.phase, o.err = Lost, fmt.Sprintf("%s, and could not be raised again: %v", lost, err)
			return
		}
		o.phase, o.err = Ready, ""
	})
	c.keep(o)
}

// resume takes down what was being raised or taken down, and what nobody holds, those above first. While there are records that cannot
// be read, nobody knows what they hold, so what seems to be held by nobody stays.
func (c *Chain) resume(ctx context.Context, objects []*object) {
	for _, o := range slices.Backward(objects) {
		c.mu.Lock()
		goes := !o.claimed && (o.phase == Planned || o.phase == Undoing || (!o.held() && len(c.bad) == 0))
		if goes {
			o.claimed, o.client = true, false
		}
		c.mu.Unlock()
		if !goes {
			continue
		}
		c.update(o, func() { o.phase = Undoing })
		orphans, err := c.takeDownOne(ctx, o, true)
		if err != nil {
			c.log.WithField("obj", o.id).WithError(err).Warn("what an earlier daemon left could not be taken down; it is tried again")
			continue
		}
		c.takeDownAll(ctx, orphans)
	}
}
