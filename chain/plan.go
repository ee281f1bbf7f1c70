package chain

import (
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// maxDepth bounds how deep definitions nest; the server refuses deeper ones before they get here.
const maxDepth = 64

// maxObjects bounds how many objects one request may define.
const maxObjects = 1024

// plan is what one request asks for: the objects to make, those below before those above, and the objects that it only names.
type plan struct {
	objects []*object // in the order in which they are raised; the last is the one asked for
	links   []named
	start   bool // start the container once it is raised
}

// named is an entry of holder.below: an object of the same plan, or one that exists and is only named by its id.
type named struct {
	holder *object
	index  int // of the entry in holder.below
	kind   Kind
	id     ID      // of the object that exists
	child  *object // of the same plan; then id is not known yet
}

func (p *plan) root() *object { return p.objects[len(p.objects)-1] }

// planner turns a definition into a plan. It touches nothing: all that can be refused is refused here.
type planner struct {
	c    *Chain
	plan plan
}

func (p *planner) attach(spec *models.Attach, readOnly bool, depth int) (*object, error) {
	if depth > maxDepth {
		return nil, tooDeep()
	}
	d, ok := p.c.cfg.Attach.Driver(string(spec.Kind))
	if !ok {
		return nil, noDriver("attach", string(spec.Kind), p.c.cfg.Attach.Kinds())
	}
	if err := checkAttachSecrets(spec); err != nil {
		return nil, err
	}
	if err := d.Validate(spec); err != nil {
		return nil, err
	}
	own := *spec
	o := newObject(KindAttach, p.c.cfg.OnStep)
	o.attach, o.readOnly = &own, readOnly
	if l := spec.Loopback; l != nil && l.Mount != nil {
		part := *l
		own.Loopback, part.Mount = &part, nil
		if err := p.link(o, mount.RoleBase, KindMount, l.Mount, nil, false, depth); err != nil {
			return nil, err
		}
	}
	p.plan.objects = append(p.plan.objects, o)
	return o, nil
}

func (p *planner) mount(spec *models.Mount, depth int) (*object, error) {
	if depth > maxDepth {
		return nil, tooDeep()
	}
	if len(p.plan.objects) >= maxObjects {
		return nil, fault.New(fault.Invalid, "the definition has more than %d objects", maxObjects)
	}
	d, ok := p.c.cfg.Mount.Driver(string(spec.Kind))
	if !ok {
		return nil, noDriver("mount", string(spec.Kind), p.c.cfg.Mount.Kinds())
	}
	if err := checkMountSecrets(spec); err != nil {
		return nil, err
	}
	if err := d.Validate(spec); err != nil {
		return nil, err
	}
	own := *spec
	o := newObject(KindMount, p.c.cfg.OnStep)
	o.mount = &own
	if err := p.belowMount(o, &own, depth); err != nil {
		return nil, err
	}
	p.plan.objects = append(p.plan.objects, o)
	return o, nil
}

// belowMount plans what a mount lies on and takes the nested definitions out of own.
func (p *planner) belowMount(o *object, own *models.Mount, depth int) error {
	switch {
	case own.Attach != nil:
		part := *own.Attach
		nested := part.Attach
		own.Attach, part.Attach = &part, nil
		return p.link(o, mount.RoleDevice, KindAttach, nil, nested, onlyReads(&part), depth)
	case own.Bind != nil && own.Bind.Mount != nil:
		part := *own.Bind
		nested := part.Mount
		own.Bind, part.Mount = &part, nil
		return p.link(o, mount.RoleBase, KindMount, nested, nil, false, depth)
	case own.Overlay != nil:
		return p.belowOverlay(o, own, depth)
	}
	return nil
}

func (p *planner) belowOverlay(o *object, own *models.Mount, depth int) error {
	part := *own.Overlay
	lower := part.Lower
	own.Overlay, part.Lower = &part, nil
	for _, l := range lower {
		if err := p.link(o, mount.RoleLower, KindMount, l, nil, false, depth); err != nil {
			return err
		}
	}
	if part.Upper == nil || part.Upper.Mount == nil {
		return nil
	}
	upper := *part.Upper
	nested := upper.Mount
	part.Upper, upper.Mount = &upper, nil
	return p.link(o, mount.RoleUpper, KindMount, nested, nil, false, depth)
}

func (p *planner) container(spec *models.Container) (*object, error) {
	if p.c.cfg.Runtime == nil {
		return nil, fault.New(fault.Unsupported, "this daemon runs no containers")
	}
	if err := p.c.cfg.Runtime.Validate(spec); err != nil {
		return nil, err
	}
	own := *spec
	o := newObject(KindContainer, p.c.cfg.OnStep)
	o.container, o.ctr.State = &own, models.ContainerStateCreated
	own.Mount, own.State = nil, ""
	if err := p.link(o, roleRoot, KindMount, spec.Mount, nil, false, 0); err != nil {
		return nil, err
	}
	p.plan.objects = append(p.plan.objects, o)
	return o, nil
}

// roleRoot is the mount that a container's root is.
const roleRoot mount.Role = "root"

// link plans what o lies on in a role: the definition m or a, or the object that it names.
func (p *planner) link(o *object, role mount.Role, kind Kind, m *models.Mount, a *models.Attach, readOnly bool, depth int) error {
	var id ID
	switch {
	case kind == KindMount && m != nil:
		id = m.ID
	case kind == KindAttach && a != nil:
		id = a.ID
	default:
		return fault.New(fault.Invalid, "%s: %s is missing: define one or name one as {\"id\": N}", kind, role)
	}
	if id != 0 {
		o.below = append(o.below, below{Role: role, ID: id})
		p.plan.links = append(p.plan.links, named{holder: o, index: len(o.below) - 1, kind: kind, id: id})
		return nil
	}
	var child *object
	var err error
	if kind == KindMount {
		child, err = p.mount(m, depth+1)
	} else {
		child, err = p.attach(a, readOnly, depth+1)
	}
	if err != nil {
		return err
	}
	o.below = append(o.below, below{Role: role})
	p.plan.links = append(p.plan.links, named{holder: o, index: len(o.below) - 1, kind: kind, child: child})
	return nil
}

func tooDeep() error {
	return fault.New(fault.Invalid, "the definition nests deeper than %d levels", maxDepth)
}

func noDriver(kind, word string, have []string) error {
	if word == "" {
		return fault.New(fault.Invalid, "%s: kind is missing: one of %v", kind, sorted(have))
	}
	return fault.Hintf(fault.New(fault.Unsupported, "%s: this daemon has no driver of kind %q", kind, word),
		"it has %v", sorted(have))
}

func sorted(words []string) []string {
	words = slices.Clone(words)
	slices.Sort(words)
	return words
}

// onlyReads reports whether a file system is never written, so that its device can be read-only.
func onlyReads(m *models.MountAttach) bool {
	switch {
	case m.FsType == nil:
		return false
	case *m.FsType == "squashfs", *m.FsType == "erofs":
		return true
	}
	return slices.ContainsFunc(m.MountOptions, func(options string) bool {
		return slices.Contains(strings.Split(options, ","), "ro")
	})
}
