package kmod

import (
	"fmt"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Set is modules with all that they need.
type Set struct {
	Modules []*Module // those that others need come first
	Missing []string  // what was asked for if it is there, and is not
	Notes   []string  // soft dependencies that nothing answers to
}

// Request is what is asked for. A module is named by its name, by an alias such as fs-erofs or pci:v00001AF4d…, or by its file.
type Request struct {
	Names  []string // must be there, or be built in
	Wanted []string // taken if they are there
	All    bool     // take every module
	After  map[string][]string
}

// Resolve gives the modules that are asked for with those that they need, softly or not. The order of names does not count.
func (d *Dir) Resolve(req Request) (*Set, error) {
	r := &resolver{d: d, after: req.After, state: map[string]state{}, lacks: map[string]error{}, set: &Set{}}
	for _, name := range sorted(req.Names) {
		if err := r.visit(name, nil, false); err != nil {
			return nil, err
		}
	}
	wanted := sorted(req.Wanted)
	if req.All {
		wanted = d.Names()
	}
	for _, name := range wanted {
		if err := r.visit(name, nil, true); err != nil {
			return nil, err
		}
	}
	for name, list := range req.After { // so that the index says it, too
		if m := d.known[Plain(name)]; m != nil && r.state[m.Name] == done {
			m.After = sorted(append(m.After, list...))
		}
	}
	return r.set, nil
}

func sorted(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// state is how far a name is.
type state int

const (
	unseen state = iota
	under        // on the way down to it
	done
)

type resolver struct {
	d     *Dir
	after map[string][]string
	state map[string]state
	lacks map[string]error // modules that were given up, for what they need is not there
	set   *Set
}

// visit takes what is asked for, after what that needs. way is who asked, the first one first. What is only wanted may be missing.
func (r *resolver) visit(asked string, way []string, wanted bool) error {
	name := asked
	if moduleName(asked) != "" { // a file
		found, err := r.d.byPath(asked)
		if err != nil {
			return err
		}
		name = found
	}
	m, err := r.d.Module(name)
	if err != nil {
		return err
	}
	if m != nil {
		return r.module(m, way, wanted)
	}
	if r.d.builtIn[Plain(name)] {
		return nil
	}
	return r.alias(asked, way, wanted)
}

func (r *resolver) alias(asked string, way []string, wanted bool) error {
	known := r.state[Plain(asked)] == done
	r.state[Plain(asked)] = done
	found, builtIn, err := r.d.byAlias(asked)
	switch {
	case err != nil:
		return err
	case len(found) > 0 || builtIn || wanted && known:
	case len(way) == 0 && wanted:
		r.set.Missing = append(r.set.Missing, asked)
	case wanted:
		r.set.Notes = append(r.set.Notes, fmt.Sprintf("nothing answers to %s, which %s would like to have", asked, way[len(way)-1]))
	case len(way) > 0:
		return fault.Hintf(fault.New(fault.NotFound, "module %s needs %s, which is neither in %s nor built in", way[len(way)-1], asked, r.d.path),
			"the directory is not whole: name that of the kernel's package")
	default:
		return r.d.unknown(asked, asked)
	}
	for _, m := range found {
		if err := r.module(m, way, wanted); err != nil {
			return err
		}
	}
	return nil
}

// module takes a module. One that is only wanted and whose own dependencies are not all there is left out, with a note.
func (r *resolver) module(m *Module, way []string, wanted bool) error {
	err := r.lacks[m.Name]
	if err == nil {
		err = r.take(m, way, wanted)
	}
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	if r.lacks[m.Name] == nil {
		r.lacks[m.Name], r.state[m.Name] = err, done
		r.set.Notes = append(r.set.Notes, "left out: "+err.Error())
	}
	if wanted {
		return nil
	}
	return err
}

func (r *resolver) take(m *Module, way []string, wanted bool) error {
	switch r.state[m.Name] {
	case done:
		return nil
	case under:
		if wanted { // soft dependencies may go in circles, and do
			return nil
		}
		return fault.New(fault.Corrupt, "modules need each other in a circle: %s → %s", strings.Join(way, " → "), m.Name)
	}
	r.state[m.Name] = under
	way = append(slices.Clip(way), m.Name)
	if err := r.each(m.Needs, way, false); err != nil {
		return err
	}
	if err := r.each(m.Before, way, true); err != nil {
		return err
	}
	r.state[m.Name] = done
	r.set.Modules = append(r.set.Modules, m)
	for _, later := range [][]string{m.After, m.Weak, r.after[m.Name]} {
		if err := r.each(later, way, true); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) each(names []string, way []string, wanted bool) error {
	for _, n := range names {
		if err := r.visit(n, way, wanted); err != nil {
			return err
		}
	}
	return nil
}
