package chain

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// probeTimeout bounds one question to a driver.
const probeTimeout = 5 * time.Second

// probeAll asks the kernel about every object, all at once: one that hangs must not hold up the others, nor, for longer than
// Config.ProbeWait, the daemon. What is not answered by then is taken over when it comes.
func (c *Chain) probeAll(objects []*object) {
	var wg sync.WaitGroup
	for _, o := range objects {
		if o.phase != Ready && o.phase != Lost {
			continue
		}
		c.update(o, func() { o.unsure = true })
		wg.Go(func() { c.ask(o) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	wait := time.NewTimer(c.cfg.ProbeWait)
	defer wait.Stop()
	select {
	case <-done:
		return
	case <-wait.C:
	}
	for _, o := range objects {
		c.update(o, func() {
			if o.unsure && o.probed() && !isStuck(o.err) {
				o.err = fmt.Sprintf("stuck: whether %s is still in place is not known: its driver has not answered for %s", o, c.cfg.ProbeWait)
			}
		})
	}
}

// ask probes an object, unless somebody is at it, and notes what keeps it from being known.
func (c *Chain) ask(o *object) {
	c.mu.Lock()
	asking := o.asking
	o.asking = true
	c.mu.Unlock()
	if asking {
		return
	}
	err := c.probe(c.ctx, o)
	c.update(o, func() {
		o.asking = false
		o.unsure = fault.Is(err, fault.Timeout)
		if err != nil && (o.probed() || o.kind == KindContainer) {
			o.err = err.Error()
		}
	})
}

// askOn asks again, with growing pauses, about what nobody could tell, until all is known. What is lost is raised again then.
func (c *Chain) askOn(objects []*object) {
	for wait := time.Second; pause(c.ctx, wait); wait = min(2*wait, retryLast) {
		c.mu.RLock()
		unsure := slices.DeleteFunc(slices.Clone(objects), func(o *object) bool {
			return !o.unsure || o.asking || o.stuck > 0 || o.kind == KindContainer || !o.probed()
		})
		left := slices.ContainsFunc(objects, func(o *object) bool { return o.unsure && o.phase != Gone && o.kind != KindContainer })
		c.mu.RUnlock()
		if !left {
			return
		}
		var wg sync.WaitGroup
		for _, o := range unsure {
			wg.Go(func() { c.ask(o) })
		}
		wg.Wait()
		if len(unsure) > 0 {
			c.redoAll(objects)
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
		return about(o, string(o.attach.Kind), err)
	}
	c.update(o, func() {
		switch was := o.device; {
		case !o.probed(): // the answer came late, and it is on its way down by now
			return
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
		return about(o, string(o.mount.Kind), err)
	}
	c.update(o, func() {
		if !o.probed() {
			return
		}
		if state != mount.Ready {
			o.phase, o.err = Lost, "it was unmounted without us"
			return
		}
		o.phase, o.err, o.active = Ready, "", active
	})
	return nil
}

// probed reports whether an object may take over what a probe says of it. Chain.mu is held.
func (o *object) probed() bool { return !o.claimed && (o.phase == Ready || o.phase == Lost) }

// probeContainer adopts a container and follows it on. One that was stopping goes on to stop; one that does not answer now is asked on.
func (c *Chain) probeContainer(ctx context.Context, o *object) error {
	status, err := c.cfg.Runtime.Status(ctx, o.id)
	runs, stopping, run := false, false, 0
	c.update(o, func() {
		if err == nil {
			o.ctr.follow(status)
		}
		if left := time.Until(o.ctr.KillAt); left > maxGrace { // the clock was set back
			o.ctr.KillAt = time.Now().Add(c.grace(o, nil))
		}
		runs, stopping, run = o.ctr.runs(), o.ctr.State == models.ContainerStateStopping, o.run
	})
	c.keep(o)
	if runs {
		c.watch(o)
	}
	if stopping {
		c.wg.Go(func() { c.seeEnd(o, run) })
	}
	if err != nil {
		return fmt.Errorf("probe %s: %w", o, err)
	}
	return nil
}
