package chain

import (
	"context"
	"sync/atomic"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Attachments lists the attachments, oldest first: all, or the one with the id, or those of a kind.
func (c *Chain) Attachments(id *int64, kind string) ([]*models.Attach, error) {
	c.refresh(KindAttach, kind)
	return list(c, KindAttach, id, c.viewAttach, func(v *models.Attach) bool { return kind == "" || string(v.Kind) == kind })
}

// Attach raises an attachment held by its client.
func (c *Chain) Attach(ctx context.Context, spec *models.Attach) (*models.Attach, error) {
	return define(ctx, c, c.viewAttach, func(p *planner) (*object, error) { return p.attach(spec, false, 0) })
}

// Detach takes down an attachment.
func (c *Chain) Detach(_ context.Context, id int64, force bool) (*models.Attach, error) {
	v, err := takeAway(c, KindAttach, id, force, c.viewAttach)
	if err == nil {
		v.State = string(Gone)
	}
	return v, err
}

// Mounts lists the mounts, oldest first: all, or the one with the id, or those of a kind.
func (c *Chain) Mounts(id *int64, kind string) ([]*models.Mount, error) {
	c.refresh(KindMount, kind)
	return list(c, KindMount, id, c.viewMount, func(v *models.Mount) bool { return kind == "" || string(v.Kind) == kind })
}

// Mount raises a mount held by its client, with all that it defines.
func (c *Chain) Mount(ctx context.Context, spec *models.Mount) (*models.Mount, error) {
	return define(ctx, c, c.viewMount, func(p *planner) (*object, error) { return p.mount(spec, 0) })
}

// Unmount takes down a mount.
func (c *Chain) Unmount(_ context.Context, id int64, force bool) (*models.Mount, error) {
	v, err := takeAway(c, KindMount, id, force, c.viewMount)
	if err == nil {
		v.State = string(Gone)
	}
	return v, err
}

// list views the objects of a kind, oldest first, that fit.
func list[V any](c *Chain, kind Kind, id *int64, view func(*object) V, fits func(V) bool) ([]V, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	found, err := c.pick(kind, id)
	views := []V{}
	for _, o := range found {
		if v := view(o); fits(v) {
			views = append(views, v)
		}
	}
	return views, err
}

// define plans a definition, which touches nothing, and raises it.
func define[V any](ctx context.Context, c *Chain, view func(*object) V, definition func(*planner) (*object, error)) (v V, err error) {
	end, err := c.begin()
	if err != nil {
		return v, err
	}
	defer end()
	p := planner{c: c}
	o, err := definition(&p)
	if err != nil {
		return v, err
	}
	if err := c.raise(ctx, &p.plan); err != nil {
		return v, err
	}
	return viewOf(c, o, view), nil
}

// takeAway removes an object for its client and views it as it was.
func takeAway[V any](c *Chain, kind Kind, id int64, force bool, view func(*object) V) (v V, err error) {
	end, err := c.begin()
	if err != nil {
		return v, err
	}
	defer end()
	var was atomic.Pointer[V] // the removal may go on, and view, when its client has its answer
	if err := c.remove(kind, id, force, func(o *object) { now := view(o); was.Store(&now) }); err != nil {
		return v, err
	}
	if seen := was.Load(); seen != nil {
		return *seen, nil
	}
	return v, fault.New(fault.NotFound, "no %s has id %d: another request has deleted it meanwhile", kind, id)
}

func viewOf[V any](c *Chain, o *object, view func(*object) V) V {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return view(o)
}
