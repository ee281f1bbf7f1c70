package chain

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// raise makes what the plan asks for, from below, or leaves the node as it was:
//
//  1. numbers and holds are taken in one go, so that nothing named can go meanwhile;
//  2. every record is written, as planned;
//  3. each object is raised by its driver;
//  4. a container that is to run is started;
//  5. every record is written again, as ready. From here on a daemon that starts adopts it all.
//
// When anything fails, the objects go again, those above first.
func (c *Chain) raise(ctx context.Context, p *plan) (err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.CreateTimeout)
	defer cancel()
	defer context.AfterFunc(c.creates, cancel)()
	if err := c.register(ctx, p); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = c.abandon(ctx, p, err)
		}
	}()
	if err := c.save(ctx, p.objects...); err != nil {
		return err
	}
	defer c.prepare(ctx, p)()
	for _, o := range p.objects {
		if err := c.raiseOne(ctx, o); err != nil {
			return err
		}
	}
	if p.start {
		if err := c.launch(ctx, p.root()); err != nil {
			return err
		}
	}
	return c.promise(ctx, p)
}

// promise writes the records of what is in place. The one asked for comes last: without it the others are undone.
func (c *Chain) promise(ctx context.Context, p *plan) error {
	for _, o := range p.objects {
		c.update(o, func() { o.phase = Ready })
	}
	return c.save(ctx, p.objects...)
}

// register gives the planned objects their numbers and takes the holds.
func (c *Chain) register(ctx context.Context, p *plan) error {
	first, err := c.seq.take(ctx, len(p.objects))
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.admit(p); err != nil {
		return err
	}
	for i, o := range p.objects {
		o.id = first + ID(i)
		c.objects[o.id] = o
	}
	for _, l := range p.links {
		if l.child != nil {
			l.id = l.child.id
			l.holder.below[l.index].ID = l.id
		}
		c.objects[l.id].over[l.holder.id] = l.holder.kind
	}
	c.shareIDs(p)
	root := p.root()
	root.client = true
	if n := root.name(); n != "" {
		c.names[n] = root
	}
	return nil
}

// shareIDs lets the mount that a container with a user namespace defines as its root know which ids that has. A mount that it only
// names is there already, and stays as it is. Chain.mu is held.
func (c *Chain) shareIDs(p *plan) {
	root := p.root()
	m, ok := c.cfg.Runtime.(container.UserMapper)
	if !ok || root.kind != KindContainer {
		return
	}
	for _, l := range p.links {
		if l.holder == root && l.child != nil {
			l.child.ids = m.IDs(root.id, root.container)
		}
	}
}

// admit refuses a plan whose name is taken or that names what is not there. Chain.mu is held.
func (c *Chain) admit(p *plan) error {
	if n := p.root().name(); n != "" && c.names[n] != nil {
		return fault.Hintf(fault.New(fault.Exists, "a container named %q exists: %s", n, c.names[n]), "delete it first, or take another name")
	}
	for _, l := range p.links {
		if l.child != nil {
			continue
		}
		o := c.objects[l.id]
		if o == nil || o.kind != l.kind {
			return fmt.Errorf("%s: %w", l.holder.below[l.index].Role, c.noObject(l.kind, l.id))
		}
		if o.phase != Ready || o.claimed {
			return fault.New(fault.BadState, "%s is %s and cannot be used", o, o.phase)
		}
	}
	return nil
}

// raiseOne has the object's driver make it.
func (c *Chain) raiseOne(ctx context.Context, o *object) error {
	c.update(o, func() { o.phase, o.touched = Doing, true })
	switch o.kind {
	case KindAttach:
		return c.raiseAttach(ctx, o)
	case KindMount:
		return c.raiseMount(ctx, o)
	default: // a container is raised when its mount is; it starts later
		return nil
	}
}

func (c *Chain) raiseAttach(ctx context.Context, o *object) error {
	d, ok := c.cfg.Attach.Driver(string(o.attach.Kind))
	if !ok {
		return noDriver("attach", string(o.attach.Kind), c.cfg.Attach.Kinds())
	}
	base, spec := c.base(o), c.attachSpec(o)
	return c.call(ctx, o, "attach", c.cfg.StepTimeout, func(ctx context.Context) error {
		dev, err := d.Attach(ctx, o.id, spec, base)
		if err != nil {
			return about(o, string(o.attach.Kind), err)
		}
		c.update(o, func() { o.device = dev })
		return nil
	})
}

func (c *Chain) raiseMount(ctx context.Context, o *object) error {
	d, ok := c.cfg.Mount.Driver(string(o.mount.Kind))
	if !ok {
		return noDriver("mount", string(o.mount.Kind), c.cfg.Mount.Kinds())
	}
	target, layers, spec := c.target(o), c.layers(o), c.mountSpec(o)
	return c.call(c.besides(ctx, o), o, "mount", c.cfg.StepTimeout, func(ctx context.Context) error {
		if err := makeTarget(ctx, target); err != nil {
			return fmt.Errorf("%s: %w", o, err)
		}
		active, err := d.Mount(ctx, o.id, spec, layers, target)
		if err != nil {
			return about(o, string(o.mount.Kind), err)
		}
		c.update(o, func() { o.active = active })
		return nil
	})
}

// makeTarget makes the mountpoint. One that a crash left is as good.
func makeTarget(ctx context.Context, t mount.Target) error {
	return step.Do(ctx, "mountpoint.make", func(context.Context) error {
		if err := os.Mkdir(t.Dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	})
}

func (c *Chain) target(o *object) mount.Target {
	return mount.Target{Dir: c.dir.Mount(int64(o.id)), Scratch: c.dir.Scratch(int64(o.id)), IDs: o.ids}
}

// base is what an attachment's paths are relative to.
func (c *Chain) base(o *object) attach.Base {
	b := attach.Base{Dir: "/", ReadOnly: o.readOnly}
	if len(o.below) > 0 {
		b.Dir, b.Confined = c.dir.Mount(int64(o.below[0].ID)), true
	}
	return b
}

// layers gives a mount's driver what it lies on.
func (c *Chain) layers(o *object) []mount.Layer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	layers := make([]mount.Layer, 0, len(o.below))
	for _, b := range o.below {
		l := mount.Layer{Role: b.Role, ID: b.ID, Path: c.dir.Mount(int64(b.ID))}
		if below := c.objects[b.ID]; below != nil && below.kind == KindAttach {
			l.Path, l.ReadOnly = below.device.Path, below.device.ReadOnly
		} else if below != nil {
			l.ReadOnly = below.active.ReadOnly
		}
		layers = append(layers, l)
	}
	return layers
}

// attachSpec is the spec as the driver gets it: with its nested definition named again, so that it can tell that there is one.
func (c *Chain) attachSpec(o *object) *models.Attach {
	spec := *o.attach
	if spec.Loopback != nil && len(o.below) > 0 {
		part := *spec.Loopback
		part.Mount = &models.Mount{ID: o.below[0].ID}
		spec.Loopback = &part
	}
	return &spec
}

// mountSpec is the same for a mount.
func (c *Chain) mountSpec(o *object) *models.Mount {
	spec := *o.mount
	fillMount(&spec, o.below, func(b below) *models.Mount { return &models.Mount{ID: b.ID} },
		func(b below) *models.Attach { return &models.Attach{ID: b.ID} })
	return &spec
}

// fillMount puts nested objects where the definition had them. It copies the parts that it changes.
func fillMount(m *models.Mount, links []below, mountOf func(below) *models.Mount, attachOf func(below) *models.Attach) {
	for _, b := range links {
		switch {
		case b.Role == mount.RoleDevice && m.Attach != nil:
			part := *m.Attach
			part.Attach = attachOf(b)
			m.Attach = &part
		case b.Role == mount.RoleBase && m.Bind != nil:
			part := *m.Bind
			part.Mount = mountOf(b)
			m.Bind = &part
		}
	}
	if m.Overlay != nil {
		fillOverlay(m, links, mountOf)
	}
}

func fillOverlay(m *models.Mount, links []below, mountOf func(below) *models.Mount) {
	part := *m.Overlay
	part.Lower = make([]*models.Mount, 0, len(links))
	for _, b := range links {
		switch {
		case b.Role == mount.RoleLower:
			part.Lower = append(part.Lower, mountOf(b))
		case b.Role == mount.RoleUpper && part.Upper != nil:
			upper := *part.Upper
			upper.Mount = mountOf(b)
			part.Upper = &upper
		}
	}
	m.Overlay = &part
}
