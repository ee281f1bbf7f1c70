package chain

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// forceGrace bounds the grace of a running container that is deleted by force: the answer has to come within 60 s.
const forceGrace = 20 * time.Second

// Containers lists the containers, oldest first: all, or the one with the id or the name, or those in a state.
func (c *Chain) Containers(id *int64, name *string, state string) ([]*models.Container, error) {
	c.refreshSoon()
	c.mu.RLock()
	defer c.mu.RUnlock()
	found, err := c.pick(KindContainer, id)
	if err != nil {
		return nil, err
	}
	if name != nil && *name != "" {
		o := c.names[*name]
		if o == nil || !slices.Contains(found, o) {
			return nil, fault.New(fault.NotFound, "no container is named %q", *name)
		}
		found = []*object{o}
	}
	views := []*models.Container{}
	for _, o := range found {
		if v := c.viewContainer(o); state == "" || string(v.State) == state {
			views = append(views, v)
		}
	}
	return views, nil
}

// CreateContainer raises a container with all that it defines, and starts it when its state is running. When it cannot be started,
// nothing of it is left.
func (c *Chain) CreateContainer(ctx context.Context, spec *models.Container) (*models.Container, error) {
	if spec.State != "" && spec.State != models.ContainerStateCreated && spec.State != models.ContainerStateRunning {
		return nil, fault.New(fault.Invalid, "state %q cannot be asked for at creation: created or running", spec.State)
	}
	return define(ctx, c, c.viewContainer, func(p *planner) (*object, error) {
		p.plan.start = spec.State == models.ContainerStateRunning
		return p.container(spec)
	})
}

// DeleteContainer takes down a container, by id or by name. One that runs is stopped first when force is set.
func (c *Chain) DeleteContainer(_ context.Context, id *int64, name *string, force bool) (*models.Container, error) {
	o, err := c.containerBy(id, name)
	if err != nil {
		return nil, err
	}
	return takeAway(c, KindContainer, int64(o.id), force, c.viewContainer)
}

// end stops a container and waits for its end, but not for long: what still runs then, Remove kills.
func (c *Chain) end(ctx context.Context, o *object) error {
	grace := min(c.grace(o, nil), forceGrace)
	if err := c.halt(ctx, o, &grace); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, grace+c.cfg.UndoTimeout)
	defer cancel()
	c.await(ctx, o, func() bool { return !o.ctr.runs() })
	return nil
}

// SetContainerState starts, resumes, stops or pauses a container.
func (c *Chain) SetContainerState(ctx context.Context, id *int64, name *string, state string, grace *time.Duration) (*models.Container, error) {
	end, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	o, err := c.containerBy(id, name)
	if err != nil {
		return nil, err
	}
	switch models.ContainerState(state) {
	case models.ContainerStateRunning:
		err = c.start(ctx, o)
	case models.ContainerStatePaused:
		err = c.freeze(ctx, o)
	case models.ContainerStateExited:
		ctx, cancel := context.WithTimeout(ctx, queueWait)
		defer cancel()
		err = c.halt(ctx, o, grace)
	default:
		err = fault.New(fault.Invalid, "state %q cannot be asked for: running, exited or paused", state)
	}
	if err != nil {
		return nil, err
	}
	return viewOf(c, o, c.viewContainer), nil
}

// WaitContainer returns the container when it has ended, is ready or runs.
func (c *Chain) WaitContainer(ctx context.Context, id int64, condition string) (*models.Container, error) {
	o, err := c.containerBy(&id, nil)
	if err != nil {
		return nil, err
	}
	reached := func() bool {
		switch condition {
		case "ready":
			return o.ctr.Status.Ready && o.ctr.State == models.ContainerStateRunning
		case "running":
			return o.ctr.State == models.ContainerStateRunning
		}
		return o.ctr.ended()
	}
	over := func() bool { return reached() || o.ctr.ended() || o.phase == Gone }
	if !c.await(ctx, o, over) {
		return nil, fault.New(fault.Timeout, "%s is not %s yet, it is %s: %w", o, condition, c.stateOf(o), ctx.Err())
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case o.phase == Gone:
		return nil, fault.New(fault.NotFound, "%s was deleted", o)
	case !reached():
		return nil, fault.New(fault.BadState, "%s has ended before it was %s: %s", o, condition, ending(c.viewContainer(o)))
	}
	return c.viewContainer(o), nil
}

// ending says how a container ended.
func ending(v *models.Container) string {
	switch {
	case v.Error != "":
		return v.Error
	case v.ExitCode != nil:
		return fmt.Sprintf("exit code %d", *v.ExitCode)
	}
	return string(v.State)
}

// await waits until cond holds, which is asked under the lock at every change of o; false when ctx ended first.
func (c *Chain) await(ctx context.Context, o *object, cond func() bool) bool {
	for {
		c.mu.RLock()
		ok, changed := cond(), o.changed
		c.mu.RUnlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// OpenLog opens the log of a container.
func (c *Chain) OpenLog(ctx context.Context, id int64) (container.Log, error) {
	o, err := c.containerBy(&id, nil)
	if err != nil {
		return nil, err
	}
	return c.cfg.Runtime.OpenLog(ctx, o.id)
}

// Counts gives the number of objects by kind and state.
func (c *Chain) Counts() map[string]map[string]int {
	counts := map[string]map[string]int{string(KindAttach): {}, string(KindMount): {}, string(KindContainer): {}}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, o := range c.objects {
		counts[string(o.kind)][o.wireState()]++
	}
	return counts
}

// Info describes the daemon.
func (c *Chain) Info() *models.Info {
	info := c.cfg.Info
	info.RunDir = string(c.dir)
	info.AttachKinds, info.MountKinds = sorted(c.cfg.Attach.Kinds()), sorted(c.cfg.Mount.Kinds())
	if c.cfg.LeftBehind != nil {
		info.LeftBehind = c.cfg.LeftBehind()
	}
	return &info
}

// pick finds the objects of a kind, by id; all when id is nil. Chain.mu is held.
func (c *Chain) pick(kind Kind, id *int64) ([]*object, error) {
	if id != nil {
		o := c.objects[ID(*id)]
		if o == nil || o.kind != kind {
			return nil, c.noObject(kind, ID(*id))
		}
		return []*object{o}, nil
	}
	var found []*object
	for _, o := range c.objects {
		if o.kind == kind {
			found = append(found, o)
		}
	}
	slices.SortFunc(found, func(a, b *object) int { return int(a.id - b.id) })
	return found, nil
}

// noObject says that there is no object of the kind with the id, and what has that id. Chain.mu is held.
func (c *Chain) noObject(kind Kind, id ID) error {
	err := fault.New(fault.NotFound, "no %s has id %d", kind, id)
	if o := c.objects[id]; o != nil {
		return fault.Hintf(err, "%s has that id", o)
	}
	return fault.Hintf(err, "GET /%s lists those that there are", kind)
}

// containerBy finds a container by id or name; with both, both must fit.
func (c *Chain) containerBy(id *int64, name *string) (*object, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if id == nil && (name == nil || *name == "") {
		return nil, fault.New(fault.Invalid, "either ID or Name must be provided")
	}
	var o *object
	if id != nil {
		found, err := c.pick(KindContainer, id)
		if err != nil {
			return nil, err
		}
		o = found[0]
	}
	if name != nil && *name != "" {
		named := c.names[*name]
		if named == nil || (o != nil && o != named) {
			return nil, fault.New(fault.NotFound, "no container is named %q", *name)
		}
		o = named
	}
	return o, nil
}
