package chain

import (
	"context"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/step"
)

// prepare has the runtime begin with the start that the plan ends with, while what the container lies on is being raised. The records
// are written: a daemon that starts after a crash has the runtime remove what it finds. The answer takes it back when no start came.
func (c *Chain) prepare(ctx context.Context, p *plan) (cancel func()) {
	r, ok := c.cfg.Runtime.(container.Preparer)
	if !ok || !p.start {
		return func() {}
	}
	o := p.root()
	c.mu.Lock()
	o.touched = true
	c.mu.Unlock()
	return r.Prepare(step.With(ctx, o.steps), o.id, c.dir.Mount(int64(o.below[0].ID)))
}
