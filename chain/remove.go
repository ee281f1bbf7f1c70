package chain

import (
	"context"
	"fmt"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// remove takes down an object because its client asks for it. view is called, under the lock, while the object is still whole.
//
// Busy in the kernel, it stays as it was. Any other failure leaves it undoing, and it is tried again.
func (c *Chain) remove(ctx context.Context, kind Kind, id int64, force bool, view func(*object)) error {
	ctx = context.WithoutCancel(ctx)
	o, before, err := c.claim(kind, id, force, view)
	if err != nil {
		return err
	}
	// On a full disk the intent cannot be written, and deleting is what helps then. A daemon that is killed now finds it ready again.
	if err := c.save(ctx, o); err != nil {
		c.log.WithField("obj", o.id).WithError(err).Warn("that it is to go could not be recorded")
	}
	err = c.takeDown(ctx, o, force)
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.Busy) && c.giveBack(o, before):
		if serr := c.save(ctx, o); serr != nil {
			return fmt.Errorf("%w (and %w)", err, serr)
		}
	default:
		c.unclaim(o)
		c.kickRetry()
	}
	return err
}

// claimed is what an object was before it was claimed.
type claimed struct {
	phase  Phase
	client bool
}

// claim makes the caller the one who takes the object down.
func (c *Chain) claim(kind Kind, id int64, force bool, view func(*object)) (*object, claimed, error) {
	c.mu.RLock()
	found, err := c.pick(kind, &id)
	c.mu.RUnlock()
	if err != nil {
		return nil, claimed{}, err
	}
	o := found[0]
	before := claimed{}
	c.update(o, func() {
		if err = o.claimable(force); err != nil {
			return
		}
		view(o)
		before = claimed{o.phase, o.client}
		o.phase, o.client, o.claimed = Undoing, false, true
	})
	return o, before, err
}

// claimable says why the object cannot be deleted now. Chain.mu is held.
func (o *object) claimable(force bool) error {
	switch {
	case o.phase == Planned || o.phase == Doing:
		return fault.New(fault.BadState, "%s is still being raised", o)
	case o.claimed:
		return fault.New(fault.Busy, "%s is being taken down already", o)
	case o.phase == Gone:
		return fault.New(fault.NotFound, "no %s has id %d", o.kind, o.id)
	case o.kind == KindContainer && o.ctr.runs() && !force: // by force, what still runs is killed
		return fault.Hintf(fault.New(fault.Busy, "%s is %s", o, o.ctr.State), "stop it first, or delete it with force")
	case len(o.over) > 0 && !force:
		return fault.Hintf(fault.New(fault.Busy, "%s is held by %s", o, strings.Join(o.holders(), ", ")),
			"delete its holders first, or use force")
	}
	return nil
}

// giveBack undoes a claim; false when all that held the object has gone meanwhile, so that it has to go too.
func (c *Chain) giveBack(o *object, before claimed) (back bool) {
	c.update(o, func() {
		if back = before.client || len(o.over) > 0; back {
			o.phase, o.client, o.claimed = before.phase, before.client, false
		}
	})
	return back
}
