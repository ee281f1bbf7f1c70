package chain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// orphansWait is how long an answer waits for what lay below the deleted object to go too. Dead storage below must not hold it up.
const orphansWait = 3 * time.Second

// abandon takes down what a plan that failed has made, and returns the cause. What does not go at once is tried again in the background.
// The request may have gone, so the end of ctx does not matter.
func (c *Chain) abandon(ctx context.Context, p *plan, cause error) error {
	root := p.root()
	c.tellFailure(p, cause)
	c.update(root, func() { root.phase, root.client, root.claimed = Undoing, false, true })
	if err := c.takeDown(context.WithoutCancel(ctx), root, true); err != nil {
		c.letGo(root, err)
		return fault.Hintf(cause, "%sit could not all be undone and is tried again: %v", hintBefore(cause), err)
	}
	return cause
}

func hintBefore(err error) string {
	if h := fault.HintOf(err); h != "" {
		return h + "; "
	}
	return ""
}

// tellFailure publishes why a definition could not be raised, with the steps of all its objects: the objects themselves are about to go.
func (c *Chain) tellFailure(p *plan, cause error) {
	root := p.root()
	c.mu.RLock()
	e := root.event()
	c.mu.RUnlock()
	e.Type, e.State, e.Message = string(root.kind)+".failed", "failed", cause.Error()
	if h := fault.HintOf(cause); h != "" {
		e.Message += ": " + h
	}
	for _, o := range p.objects {
		e.Timeline = append(e.Timeline, o.steps.wire()...)
	}
	e.Timeline = e.Timeline[max(0, len(e.Timeline)-keepSteps):] // the last ones say what went wrong
	c.bus.publish(e)
	c.logEvent(e)
}

// takeDown takes down an object that its caller has claimed (phase Undoing), and then what only it held:
//
//  1. the driver takes the kernel object away;
//  2. the record is deleted: from here on no daemon knows of it;
//  3. the holds on what lies below are given up;
//  4. what nobody holds any more goes the same way, in the background. The answer waits for it, but not for long.
//
// On failure the object stays Undoing and claimed, and says why: its caller lets it go, to be tried again, or gives it back.
func (c *Chain) takeDown(ctx context.Context, o *object, force bool) error {
	orphans, err := c.takeDownOne(ctx, o, force)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	c.wg.Go(func() {
		defer close(done)
		c.takeDownAll(c.ctx, orphans)
		c.kickRetry() // what went may have kept something else busy
	})
	wait := time.NewTimer(orphansWait)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
	}
	return nil
}

// takeDownAll takes down claimed objects and all that only they held, by force what something was aborted for. They go at once: one on dead
// storage must not keep the others.
func (c *Chain) takeDownAll(ctx context.Context, claimed []*object) {
	each(claimed, func(o *object) {
		orphans, err := c.takeDownOne(ctx, o, c.isForced(o))
		if err != nil {
			c.log.WithFields(logrus.Fields{"kind": o.kind, "obj": o.id}).WithError(err).
				Warn("what nobody holds could not be taken down; it is tried again")
			c.letGo(o, err)
			return
		}
		c.takeDownAll(ctx, orphans)
	})
}

// atOnce is how many objects are taken down at a time.
const atOnce = 8

// each calls fn for some objects at a time and waits for all.
func each(objects []*object, fn func(*object)) {
	var wg sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for _, o := range objects {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			fn(o)
		})
	}
	wg.Wait()
}

// takeDownOne takes down a claimed object and claims what nobody holds any more.
func (c *Chain) takeDownOne(ctx context.Context, o *object, force bool) ([]*object, error) {
	lowering, giveUp := context.WithCancel(ctx)
	defer giveUp()
	c.update(o, func() {
		if o.giveUp = giveUp; force {
			o.giveUp = nil
		}
	})
	err := c.lower(lowering, o, force)
	c.update(o, func() { o.giveUp = nil })
	if err == nil {
		err = c.forget(ctx, o)
	}
	if err != nil {
		said := c.afterAbort(o, err)
		c.update(o, func() { o.err, o.hint = said.Error(), fault.HintOf(said) })
		return nil, err
	}
	c.update(o, func() { o.phase, o.err, o.hint = Gone, "", "" })
	orphans := c.release(o)
	c.keepForced(orphans)
	return orphans, nil
}

// release gives up o's holds and claims what nobody holds now.
func (c *Chain) release(o *object) []*object {
	var orphans []*object
	var events []*models.Event
	c.mu.Lock()
	for _, b := range slices.Backward(o.below) {
		child := c.objects[b.ID]
		if child == nil {
			continue
		}
		delete(child.over, o.id)
		if !child.held() && !child.claimed && child.phase != Gone {
			events = append(events, c.changeLocked(child, func() {
				child.phase, child.claimed = Undoing, true
				child.forced, child.aborted = child.forced || o.aborted, child.aborted || o.aborted
				child.pressed = child.pressed || o.forced || o.pressed
			}))
			orphans = append(orphans, child)
		}
	}
	c.mu.Unlock()
	for _, e := range events {
		c.logEvent(e)
	}
	return orphans
}

// letGo lets go of an object that could not be taken down: it is tried again, soon, or, when something did not answer, after a pause that
// grows, since each try may leave a process behind.
func (c *Chain) letGo(o *object, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.claimed = false
	if o.tries < 0 || !fault.Is(err, fault.Timeout) {
		o.tries, o.notBefore = 0, time.Time{}
		return
	}
	o.notBefore = time.Now().Add(min(retryStuck<<o.tries, retryLast))
	o.tries = min(o.tries+1, 10)
}

func (c *Chain) isForced(o *object) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return o.forced
}

// keepForced records what goes by force, so that a daemon after this one goes on by force. What else is to go it knows by who holds it.
func (c *Chain) keepForced(objects []*object) {
	for _, o := range objects {
		if c.mayAbort(o) {
			c.keep(o)
		}
	}
}

func (c *Chain) mayAbort(o *object) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return o.forced || o.pressed
}

// lower has the driver take the kernel object away.
func (c *Chain) lower(ctx context.Context, o *object, force bool) error {
	if !o.touched {
		return nil
	}
	switch o.kind {
	case KindAttach:
		return c.lowerAttach(ctx, o, force)
	case KindMount:
		return c.lowerMount(ctx, o, force)
	default:
		return c.lowerContainer(ctx, o)
	}
}

func (c *Chain) lowerAttach(ctx context.Context, o *object, force bool) error {
	d, ok := c.cfg.Attach.Driver(string(o.attach.Kind))
	if !ok {
		return noDriver("attach", string(o.attach.Kind), c.cfg.Attach.Kinds())
	}
	spec := c.attachSpec(o)
	return c.call(ctx, o, "detach", c.cfg.UndoTimeout, func(ctx context.Context) error {
		dev := o.device
		if dev.Path == "" { // its attaching did not end well: ask the kernel what there is
			found, state, err := d.Probe(ctx, o.id, spec)
			if err != nil {
				return about(o, string(o.attach.Kind), err)
			}
			if state == attach.Gone {
				return nil
			}
			dev = found
		}
		if err := d.Detach(ctx, dev, force); err != nil {
			return about(o, string(o.attach.Kind), err)
		}
		return nil
	})
}

func (c *Chain) lowerMount(ctx context.Context, o *object, force bool) error {
	d, ok := c.cfg.Mount.Driver(string(o.mount.Kind))
	if !ok {
		return noDriver("mount", string(o.mount.Kind), c.cfg.Mount.Kinds())
	}
	target := c.target(o)
	return c.call(c.besides(ctx, o), o, "unmount", c.cfg.UndoTimeout, func(ctx context.Context) error {
		active := o.active
		active.ID, active.Target = o.id, target
		if err := d.Unmount(ctx, active, force); err != nil {
			return about(o, string(o.mount.Kind), err)
		}
		return removeTarget(ctx, target)
	})
}

func removeTarget(ctx context.Context, t mount.Target) error {
	return step.Do(ctx, "mountpoint.remove", func(context.Context) error {
		if err := os.Remove(t.Dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the mountpoint: %w", err)
		}
		return nil
	})
}

func (c *Chain) lowerContainer(ctx context.Context, o *object) error {
	return c.call(ctx, o, "remove", c.cfg.UndoTimeout, func(ctx context.Context) error {
		if err := c.cfg.Runtime.Remove(ctx, o.id); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
		return nil
	})
}
