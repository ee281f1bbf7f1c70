package chain

import (
	"context"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
)

// How a deletion by force is pressed.
const (
	// pressAgain is how long what was aborted is left to go, before it is looked again: others may wait for it by now.
	pressAgain = 2 * time.Second
	// pressRounds is how often; then the ordinary retries take over, which abort too what is deleted by force.
	pressRounds = 8
	// abortTimeout is a little more than an Aborter may take.
	abortTimeout = 2300 * time.Millisecond
	// abortedGrace is what a driver call that hung gets to come back by itself once what it waited for was aborted.
	abortedGrace = 300 * time.Millisecond
)

// press sees to it that what is deleted by force goes although something that it lies on is dead:
//
//  1. for Config.ForceAfter it is left to go by itself, unless a driver knows already that something below does not answer;
//  2. the drivers of what goes with it (doomed) are told to abort what does not answer. They find out themselves whether it does;
//  3. when something was aborted, a container is killed now, since it cannot stop in order on what is dead;
//  4. a driver call that still hangs then is given up and made again, by force.
//
// It ends with ctx, when the removal has ended.
func (c *Chain) press(ctx context.Context, o *object) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	known := c.troubleBelow(o) != ""
	again := o.pressing != nil
	if !again {
		o.pressing = cancel
	}
	c.mu.Unlock()
	if again {
		return
	}
	defer c.update(o, func() { o.pressing = nil })
	if !known && !pause(ctx, c.cfg.ForceAfter) {
		return
	}
	for range pressRounds {
		if c.abort(ctx, o) {
			c.killNow(ctx, o)
		}
		if !pause(ctx, abortedGrace) {
			return
		}
		c.interrupt(o)
		if !pause(ctx, pressAgain) {
			return
		}
	}
}

// killNow ends the grace of a container.
func (c *Chain) killNow(ctx context.Context, o *object) {
	if o.kind != KindContainer {
		return
	}
	now := time.Duration(0)
	if err := c.halt(ctx, o, &now); err != nil { // being taken down already, which kills it
		c.log.WithField("obj", o.id).WithError(err).Debug("its grace could not be ended")
	}
}

// abort has what does not answer, of what goes with o, fail. True when there was such a thing.
func (c *Chain) abort(ctx context.Context, o *object) bool {
	c.mu.RLock()
	doomed := c.doomed(o)
	c.mu.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, abortTimeout)
	defer cancel()
	results := make(chan bool, len(doomed))
	waiting := 0
	for _, x := range doomed {
		if fn := c.aborter(x); fn != nil {
			waiting++
			go func() { results <- c.abortOne(ctx, x, fn) }()
		}
	}
	aborted := false
	for range waiting {
		select {
		case did := <-results:
			aborted = aborted || did
		case <-ctx.Done(): // one that has not come back has not aborted
		}
	}
	if aborted {
		c.force(o, doomed)
	}
	return aborted
}

// wasAborted reports whether, of what goes with o, something has been aborted.
func (c *Chain) wasAborted(o *object) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.ContainsFunc(c.doomed(o), func(x *object) bool { return x.aborted })
}

// abortBegan is wasAborted, and whether something is being aborted. Chain.mu is held.
func (c *Chain) abortBegan(o *object) bool {
	return slices.ContainsFunc(c.doomed(o), func(x *object) bool { return x.aborted || x.aborting != nil })
}

// force has what is being taken down of a tree be taken down by force from now on.
func (c *Chain) force(o *object, doomed []*object) {
	var changed []*object
	c.mu.Lock()
	o.aborted = true
	for _, x := range doomed {
		if (x == o || x.phase == Undoing) && !x.forced {
			x.forced = true
			changed = append(changed, x)
		}
	}
	c.mu.Unlock()
	c.keepForced(changed)
}

// aborting is a call of an Aborter. did is for those who have seen done closed.
type aborting struct {
	done chan struct{}
	did  bool
}

// abortOne aborts one object. When an earlier call has not come back, it waits for that instead, and tells what that did.
func (c *Chain) abortOne(ctx context.Context, x *object, fn func(context.Context) (bool, error)) bool {
	c.mu.Lock()
	if ctx.Err() != nil { // it was given back meanwhile
		c.mu.Unlock()
		return false
	}
	a, under := x.aborting, x.aborting != nil
	if !under {
		a = &aborting{done: make(chan struct{})}
		x.aborting = a
	}
	c.mu.Unlock()
	if under {
		select {
		case <-a.done:
			return a.did
		case <-ctx.Done():
			return false
		}
	}
	a.did = c.callAborter(ctx, x, fn)
	c.mu.Lock()
	x.aborting, x.aborted = nil, x.aborted || a.did
	c.mu.Unlock()
	close(a.done)
	return a.did
}

// callAborter calls a driver's Abort, and tells whether it has aborted something.
func (c *Chain) callAborter(ctx context.Context, x *object, fn func(context.Context) (bool, error)) bool {
	var did bool
	err := guarded(step.With(ctx, x.steps), func(ctx context.Context) (err error) {
		did, err = fn(ctx)
		return err
	})
	entry := c.log.WithFields(logrus.Fields{"kind": x.kind, "obj": x.id})
	switch {
	case err != nil:
		entry.WithError(err).Error("what does not answer could not be aborted")
	case did:
		entry.Warn("it does not answer and goes by force: what waited for it was made to fail")
	}
	return did && err == nil
}

// aborter gives the way to abort an object; nil when there is none.
func (c *Chain) aborter(x *object) func(context.Context) (bool, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !x.touched || x.phase == Gone {
		return nil
	}
	switch x.kind {
	case KindAttach:
		d, _ := c.cfg.Attach.Driver(string(x.attach.Kind))
		if a, ok := d.(attach.Aborter); ok {
			dev := x.device
			dev.ID = x.id // not set where attaching it has not come to its end
			return func(ctx context.Context) (bool, error) { return a.Abort(ctx, dev) }
		}
	case KindMount:
		d, _ := c.cfg.Mount.Driver(string(x.mount.Kind))
		if a, ok := d.(mount.Aborter); ok {
			active := x.active
			active.ID, active.Target = x.id, c.target(x)
			return func(ctx context.Context) (bool, error) { return a.Abort(ctx, active) }
		}
	}
	return nil
}

// interrupt gives up driver calls that hang although they could go on, and has them made again: those that were begun without force, of
// what goes by force.
func (c *Chain) interrupt(o *object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.doomed(o) {
		if x.giveUp != nil && (x.forced || x == o) {
			x.giveUp()
			x.giveUp, x.tries = nil, -1
		}
	}
}
