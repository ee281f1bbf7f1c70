package chain

import (
	"context"
	"fmt"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/step"
)

// patience is how long a driver call may take to come back after its deadline has passed before it counts as stuck.
const patience = 2 * time.Second

// call runs a driver call of o under a deadline. A call that does not come back, as one that is stuck in the kernel, is left behind:
// the answer is a timeout, o.stuck counts it until it does come back, and nothing else is called on o until then.
func (c *Chain) call(ctx context.Context, o *object, what string, limit time.Duration, fn func(context.Context) error) error {
	if c.stuck(o) {
		return fault.New(fault.Timeout, "stuck: %s of %s: an earlier call has not come back", what, o)
	}
	ctx, cancel := context.WithTimeout(step.With(ctx, o.steps), limit)
	done := make(chan error, 1)
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer cancel()
		done <- guarded(ctx, fn)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
	}
	c.leaveBehind(o, back)
	return fault.Hintf(fault.New(fault.Timeout, "stuck: %s of %s did not come back within %s: %w", what, o, limit, context.Cause(ctx)),
		"what it lies on may be dead; it is taken down as soon as the call returns")
}

// besides has what lies on storage that may stop answering be mounted and unmounted beside the daemon: what waits in the kernel must not
// keep the daemon from ending. The rest need not bear the milliseconds that a process takes.
func (c *Chain) besides(ctx context.Context, o *object) context.Context {
	if c.cfg.Process == nil || !c.mayHang(o) {
		return ctx
	}
	return fsmount.In(ctx, c.cfg.Process)
}

// guarded turns a panic of a driver into an error, so that one bad driver call never ends the daemon.
func guarded(ctx context.Context, fn func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a driver: %v", p)
		}
	}()
	return fn(ctx)
}

// leaveBehind marks o as stuck until the call has come back.
func (c *Chain) leaveBehind(o *object, back <-chan struct{}) {
	c.mu.Lock()
	o.stuck++
	c.mu.Unlock()
	go func() {
		<-back
		c.mu.Lock()
		o.stuck--
		c.mu.Unlock()
		c.kickRetry()
	}()
}

func (c *Chain) stuck(o *object) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return o.stuck > 0
}
