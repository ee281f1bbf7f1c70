package chain

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// remove takes down an object because its client asks for it. view is called, under the lock, while the object is still whole.
//
// Of what lies on network storage it answers within Config.AnswerTimeout, or, of a container that is given its grace and lies on nothing
// dead, that long after the grace; of what lies on this node alone it may take Config.CreateTimeout longer. What is not down by then goes
// on in the background: the answer is a Timeout whose text begins with "stuck: ", and the object says the same until it has gone. Busy in
// the kernel, it stays as it was, unless something was aborted for it. Any other failure leaves it undoing, and it is tried again.
//
// With force, what does not answer below it is aborted (press). So is it when the object is being taken down already.
func (c *Chain) remove(kind Kind, id int64, force bool, view func(*object)) error {
	o, err := c.find(kind, id)
	if err != nil {
		return err
	}
	down, err := c.beginRemoval(o, force, view)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan error, 1)
	c.wg.Go(func() {
		defer cancel()
		done <- down(ctx)
	})
	if force {
		c.wg.Go(func() { c.press(ctx, o) })
	}
	return c.awaitRemoval(o, done, force)
}

// beginRemoval claims the object, or, by force, joins those who take it down, and gives what is to be done then. A container is claimed
// when what is asked of it already has ended, and by force when it has ended itself.
func (c *Chain) beginRemoval(o *object, force bool, view func(*object)) (down func(context.Context) error, err error) {
	if c.phaseOf(o) != Undoing && o.kind == KindContainer {
		return func(ctx context.Context) error { return c.removeContainer(ctx, o, force, view) }, nil
	}
	before, joined, err := c.claim(o, force, view)
	switch {
	case err != nil:
		return nil, err
	case joined:
		c.keepForced([]*object{o})
		return func(ctx context.Context) error { return c.join(ctx, o) }, nil
	}
	return func(ctx context.Context) error { return c.removeClaimed(ctx, o, before, force) }, nil
}

// removeContainer stops a container, when force is set, and takes it down once no other operation works on it. It need not keep them out
// then: they refuse a container that is undoing.
func (c *Chain) removeContainer(ctx context.Context, o *object, force bool, view func(*object)) error {
	if force {
		if err := c.end(ctx, o); err != nil && c.phaseOf(o) != Undoing { // another deletion has got it meanwhile
			return err
		}
	}
	release, err := c.queue(ctx, o) // a start that is under way has to end first
	if err != nil {
		return err
	}
	before, joined, err := c.claim(o, force, view)
	release()
	switch {
	case err != nil:
		return err
	case joined:
		return c.join(ctx, o)
	}
	return c.removeClaimed(ctx, o, before, force)
}

// removeClaimed takes down an object that was claimed.
func (c *Chain) removeClaimed(ctx context.Context, o *object, before claimed, force bool) error {
	// On a full disk the intent cannot be written, and deleting is what helps then. A daemon that is killed now finds it ready again.
	if err := c.save(ctx, o); err != nil {
		c.log.WithField("obj", o.id).WithError(err).Warn("that it is to go could not be recorded")
	}
	err := c.takeDown(ctx, o, force)
	for try := 0; force && try < abortedTries && fault.Is(err, fault.Busy); try++ { // who holds it may wait for what is dead
		if !c.abort(ctx, o) && !c.wasAborted(o) { // by press, meanwhile
			break
		}
		pause(ctx, abortedPause)
		err = c.takeDown(ctx, o, force)
	}
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.Busy) && c.giveBack(o, before):
		if serr := c.save(ctx, o); serr != nil {
			return fmt.Errorf("%w (and %w)", err, serr)
		}
		return err
	}
	c.letGo(o, err)
	c.kickRetry()
	return c.afterAbort(o, err)
}

// afterAbort is what is said of an object that is busy although something was aborted for it: it cannot be given back, and has to go.
func (c *Chain) afterAbort(o *object, err error) error {
	if !fault.Is(err, fault.Busy) || !c.wasAborted(o) {
		return err
	}
	return fault.Hintf(fault.New(fault.Timeout, "stuck: aborted, and still held: %w", err), "end what holds it; it is tried again until it goes")
}

// How often, and after which time, something is tried again that was busy with what was aborted just now: who waited for it has to end.
const (
	abortedTries = 5
	abortedPause = 300 * time.Millisecond
)

// join waits for those who take the object down.
func (c *Chain) join(ctx context.Context, o *object) error {
	if !c.await(ctx, o, func() bool { return o.phase != Undoing }) {
		return ctx.Err()
	}
	if c.phaseOf(o) == Gone {
		return nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return fault.New(fault.Busy, "%s could not be taken down and is as before: %s", o, o.trouble())
}

// awaitRemoval waits for the end of a removal, but not for long where storage may hang, and says what hangs when it has not come. What lies
// on nothing but this node is only slow, as on a node with more to do than it can.
func (c *Chain) awaitRemoval(o *object, done <-chan error, force bool) error {
	wait, granted, slow := c.cfg.AnswerTimeout, false, !c.mayHang(o)
	for {
		late := time.NewTimer(wait)
		select {
		case err := <-done:
			late.Stop()
			return err
		case <-late.C:
		}
		left, healthy := c.graceLeft(o)
		switch {
		case healthy && left > 0:
			wait, granted = min(left, graceCheck), true
		case healthy && granted:
			wait, granted = c.cfg.AnswerTimeout, false
		case c.phaseOf(o) == Gone: // what lay below it goes on going
			return nil
		case slow && c.deadBelow(o) == "":
			wait, slow = c.cfg.CreateTimeout, false
		default:
			return c.tellStuck(o, force)
		}
	}
}

// mayHang reports whether o is, or lies on, network storage, which may stop answering: those are the drivers that can abort.
func (c *Chain) mayHang(o *object) bool {
	if c.aborter(o) != nil {
		return true
	}
	for _, b := range o.below {
		c.mu.RLock()
		child := c.objects[b.ID]
		c.mu.RUnlock()
		if child != nil && c.mayHang(child) {
			return true
		}
	}
	return false
}

// graceCheck is how often it is looked whether what a container lies on still answers while it has time to stop.
const graceCheck = 500 * time.Millisecond

// graceLeft is how much time a container still has to stop before it is killed, and whether nothing below it hangs: then its deletion is
// waited for longer, and not called stuck.
func (c *Chain) graceLeft(o *object) (left time.Duration, healthy bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if o.ctr.State == models.ContainerStateStopping {
		left = time.Until(o.ctr.KillAt)
	}
	return left, o.kind == KindContainer && !o.aborted && c.troubleBelow(o) == ""
}

// tellStuck says what keeps an object from going, and has the object say so too.
func (c *Chain) tellStuck(o *object, force bool) error {
	text := fmt.Sprintf("stuck: taking down %s has not come to an end within %s", o, c.cfg.AnswerTimeout)
	c.update(o, func() {
		if o.kind == KindContainer && o.ctr.runs() {
			text = fmt.Sprintf("stuck: %s has not ended: a process of it may wait for what does not answer", o)
		}
		if isStuck(o.err) {
			text = o.err
		} else if o.phase == Undoing {
			o.err, o.hint = text, ""
		}
		text = bothErrors(text, c.troubleBelow(o))
	})
	err := fault.New(fault.Timeout, "%s", text)
	if force {
		return fault.Hintf(err, "what does not answer is told to fail; it is tried again until it goes")
	}
	return fault.Hintf(err, "it is tried again until it goes; with force, what waits for dead storage is made to fail")
}

// find gives the object of a kind with an id.
func (c *Chain) find(kind Kind, id int64) (*object, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found, err := c.pick(kind, &id)
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// claimed is what an object was before it was claimed.
type claimed struct {
	phase  Phase
	client bool
}

// claim makes the caller the one who takes the object down, or, by force, one of those who do (joined).
func (c *Chain) claim(o *object, force bool, view func(*object)) (before claimed, joined bool, err error) {
	c.update(o, func() {
		joined = o.claimed && o.phase == Undoing && force
		if joined {
			view(o)
			o.forced = true
			return
		}
		if err = c.claimable(o, force); err != nil {
			return
		}
		view(o)
		before = claimed{o.phase, o.client}
		o.phase, o.client, o.claimed, o.forced = Undoing, false, true, o.forced || force
	})
	return before, joined, err
}

// claimable says why the object cannot be deleted now. Chain.mu is held.
func (c *Chain) claimable(o *object, force bool) error {
	switch {
	case o.phase == Planned || o.phase == Doing:
		return fault.New(fault.BadState, "%s is still being raised", o)
	case o.phase == Gone: // still claimed by who took it down
		return fault.New(fault.NotFound, "no %s has id %d", o.kind, o.id)
	case o.claimed:
		return busyGoing(o, bothErrors(o.trouble(), c.troubleBelow(o)))
	case o.kind == KindContainer && o.ctr.runs() && !force: // by force, what still runs is killed
		return fault.Hintf(fault.New(fault.Busy, "%s is %s", o, o.ctr.State), "stop it first, or delete it with force")
	case len(o.over) > 0 && !force:
		return fault.Hintf(fault.New(fault.Busy, "%s is held by %s", o, strings.Join(o.holders(), ", ")),
			"delete its holders first, or use force")
	}
	return nil
}

// busyGoing refuses to begin with what others are at.
func busyGoing(o *object, trouble string) error {
	if trouble == "" {
		return fault.New(fault.Busy, "%s is being taken down already", o)
	}
	return fault.Hintf(fault.New(fault.Busy, "%s is being taken down already: %s", o, trouble),
		"with force, what waits for dead storage is made to fail")
}

// giveBack undoes a claim, and ends the pressing. False when it has to go all the same: all that held it has gone meanwhile, or something
// was aborted for it.
func (c *Chain) giveBack(o *object, before claimed) (back bool) {
	c.update(o, func() {
		back = (before.client || len(o.over) > 0) && !c.abortBegan(o)
		if !back {
			return
		}
		o.phase, o.client, o.claimed, o.forced = before.phase, before.client, false, false
		if o.pressing != nil {
			o.pressing()
		}
	})
	return back
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		return true
	case <-ctx.Done():
		return false
	}
}
