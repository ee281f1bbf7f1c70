package chain

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
)

// reconcile brings the records and the node together when the daemon starts:
//
//  1. records of an earlier boot are dropped: what they promised died with it;
//  2. the objects and their holders are made from the records;
//  3. the kernel is asked about each object: what is there is adopted, what has gone is lost; what lies on storage that does not answer
//     is taken to be as recorded, says that it is stuck, and is asked about again until there is an answer;
//  4. what is lost is raised again when all that it lies on is there;
//  5. what was being raised or taken down, and what nobody holds, is taken down;
//  6. what the kernel has under our names without a record is reaped.
//
// The last three may meet dead storage. They are waited for, but not for long; then they go on while the daemon serves.
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
	c.probeAll(objects)
	c.doom(objects)
	done := make(chan struct{})
	go func() { // not waited for when the chain closes: it may hang on dead storage
		defer close(done)
		c.redoAll(objects)
		c.retryAll()
		c.reap(c.ctx)
	}()
	c.wg.Go(func() { c.askOn(objects) })
	wait := time.NewTimer(settleWait)
	defer wait.Stop()
	select {
	case <-done:
	case <-wait.C:
		c.log.Warn("what an earlier daemon left has not all been settled; it goes on in the background")
	}
	c.log.WithFields(logrus.Fields{"records": len(records), "bad": len(bad)}).Info("reconciled")
	return nil
}

// settleWait is how long the daemon waits, before it serves, for what an earlier one left to be raised again or taken down.
const settleWait = 1500 * time.Millisecond

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

// maxGrace is the longest grace that the contract allows.
const maxGrace = 24 * time.Hour

// redoAll raises again what has gone without us, from below: what lies on it can only be raised after it.
func (c *Chain) redoAll(objects []*object) {
	for _, o := range objects {
		if o.kind != KindContainer && c.claimLost(o) {
			c.redo(c.ctx, o)
		}
	}
}

// claimLost claims a lost object, when all that it lies on is there.
func (c *Chain) claimLost(o *object) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.phase != Lost || o.claimed || o.replaced {
		return false
	}
	for _, b := range o.below {
		if child := c.objects[b.ID]; child == nil || child.phase != Ready || child.unsure {
			return false
		}
	}
	o.claimed = true
	return true
}

// redo raises a claimed object again.
func (c *Chain) redo(ctx context.Context, o *object) {
	lost := o.err
	err := c.lower(ctx, o, false)
	if err == nil {
		// Without its old device in the record, a daemon that starts in between takes the new one for its own.
		c.update(o, func() { o.device = attach.Device{} })
		c.keep(o)
		err = c.raiseOne(ctx, o)
	}
	c.update(o, func() {
		o.claimed = false
		if err != nil {
			o.phase, o.err = Lost, fmt.Sprintf("%s, and could not be raised again: %v", lost, err)
			return
		}
		o.phase, o.err = Ready, ""
	})
	c.keep(o)
}

// doom marks what is to go: what was being raised or taken down, and what nobody holds. What lies below goes with it. While there are
// records that cannot be read, nobody knows what they hold, so what seems to be held by nobody stays.
func (c *Chain) doom(objects []*object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range slices.Backward(objects) { // those above first: their own mark keeps those below for later
		unheld := !o.held() && len(c.bad) == 0
		if o.phase != Planned && o.phase != Undoing && !unheld {
			continue
		}
		o.client = false
		if len(o.over) > 0 && o.phase != Undoing { // it goes when what lies on it has gone
			continue
		}
		c.changeLocked(o, func() { o.phase = Undoing })
	}
}
