package kmod

import (
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/nearest"
)

// planned is one module to load.
type planned struct {
	*Packed
	may bool // go wrong: it was only wanted
}

// planner puts modules into the order in which they are loaded.
type planner struct {
	x    *Index
	seen map[string]*planned
	list []*planned
}

// order gives what has to be loaded for the module, which comes last but for what it wants after it.
func (x *Index) order(m *Packed) ([]*planned, error) {
	p := &planner{x: x, seen: map[string]*planned{}}
	err := p.module(m, false)
	return p.list, err
}

func (p *planner) module(m *Packed, may bool) error {
	if before := p.seen[m.Name]; before != nil {
		before.may = before.may && may
		return nil
	}
	this := &planned{m, may}
	p.seen[m.Name] = this
	for _, name := range m.Needs {
		needed := p.x.byName[name]
		switch {
		case needed != nil:
			if err := p.module(needed, may); err != nil {
				return err
			}
		case !p.x.builtIn[name]:
			return fault.New(fault.Corrupt, "module %s needs %s, which is not here", m.Name, name)
		}
	}
	p.softly(m.Before)
	p.list = append(p.list, this)
	p.softly(m.After)
	return nil
}

// softly plans what is wanted only: what cannot be had is left out.
func (p *planner) softly(names []string) {
	for _, name := range names {
		list, _ := p.x.answering(name)
		if m := p.x.byName[Plain(name)]; m != nil {
			list = []*Packed{m}
		}
		for _, m := range list {
			_ = p.module(m, true)
		}
	}
}

// find gives the modules that the name or alias stands for; none without an error when the kernel has it in itself.
func (x *Index) find(name string) (list []*Packed, byAlias bool, err error) {
	if m := x.byName[Plain(name)]; m != nil {
		return []*Packed{m}, false, nil
	}
	if x.builtIn[Plain(name)] {
		return nil, false, nil
	}
	list, builtIn := x.answering(name)
	if len(list) > 0 || builtIn {
		return list, true, nil
	}
	err = fault.New(fault.NotFound, "there is no module %s, and nothing that answers to this alias", name)
	if near := nearest.To(name, x.names()); len(near) > 0 {
		err = fault.Hintf(err, "did you mean %s?", strings.Join(near, " or "))
	}
	return nil, false, err
}

func (x *Index) names() []string {
	var names []string
	for _, m := range x.Modules {
		names = append(names, m.Name)
	}
	return names
}
