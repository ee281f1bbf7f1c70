package chain

import (
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// How often what could not be taken down is tried again: soon at first, for what only needs a moment, then rarely.
const (
	retryFirst = 100 * time.Millisecond
	retryLast  = 30 * time.Second
	retryStuck = time.Second // the first pause after a try that ended because something did not answer
)

// kickRetry has what could not be taken down tried again now: something else has gone that may have held it.
func (c *Chain) kickRetry() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// retryLoop tries again, with growing pauses, until the chain closes.
func (c *Chain) retryLoop() {
	pause := retryFirst
	for {
		wait := time.NewTimer(pause)
		select {
		case <-c.ctx.Done():
			wait.Stop()
			return
		case <-c.kick:
			wait.Stop()
			pause = retryFirst
		case <-wait.C:
		}
		pause = min(2*pause, retryLast)
		c.wg.Go(c.retryAll) // not waited for: one on dead storage takes its time
	}
}

// retryAll tries once to take down everything that is left over.
func (c *Chain) retryAll() { each(c.leftovers(), c.retry) }

// retry claims an object that is to go, when nobody else has meanwhile, and takes it down.
func (c *Chain) retry(o *object) {
	c.mu.Lock()
	mine := o.leftOver()
	o.claimed = o.claimed || mine
	c.mu.Unlock()
	if !mine {
		return
	}
	if c.mayAbort(o) {
		c.abort(c.ctx, o)
	}
	orphans, err := c.takeDownOne(c.ctx, o, c.isForced(o))
	if err != nil {
		c.log.WithFields(logrus.Fields{"kind": o.kind, "obj": o.id}).WithError(err).Debug("still cannot be taken down")
		c.letGo(o, err)
		return
	}
	c.takeDownAll(c.ctx, orphans)
	c.kickRetry()
}

// leftOver reports whether the object is to go and nobody is taking it down. Chain.mu is held.
func (o *object) leftOver() bool {
	return o.phase == Undoing && !o.claimed && o.stuck == 0 && !time.Now().Before(o.notBefore)
}

// leftovers lists what is to go, those above first.
func (c *Chain) leftovers() []*object {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var left []*object
	for _, o := range c.objects {
		if o.leftOver() {
			left = append(left, o)
		}
	}
	slices.SortFunc(left, func(a, b *object) int { return int(b.id - a.id) })
	return left
}
