package kmod

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/nearest"
)

// Names gives the plain names of all modules, sorted.
func (d *Dir) Names() []string { return slices.Sorted(maps.Keys(d.files)) }

// Module gives the module of the name. What there is none of is nil without an error.
func (d *Dir) Module(name string) (*Module, error) {
	name = Plain(name)
	path := d.files[name]
	if path == "" {
		return nil, nil
	}
	d.mu.Lock()
	m := d.known[name]
	d.mu.Unlock()
	if m != nil {
		return m, nil
	}
	m = &Module{Name: name, Path: path, file: filepath.Join(d.path, path)}
	var err error
	if m.Info, err = readInfo(m.file); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[name] = m
	return m, nil
}

// everything reads what all modules say of themselves, once: an alias can be anybody's.
func (d *Dir) everything() error {
	d.mu.Lock()
	all := d.all
	d.mu.Unlock()
	if all {
		return nil
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for name := range d.files {
		g.Go(func() error {
			_, err := d.Module(name)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = true
	return nil
}

// byAlias gives the modules that answer to the alias, in the order in which they are tried, and whether the kernel itself does.
func (d *Dir) byAlias(alias string) (found []*Module, builtIn bool, err error) {
	if err := d.everything(); err != nil {
		return nil, false, err
	}
	answers := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return match(p, alias) })
	}
	for _, m := range d.known {
		if answers(m.Aliases) {
			found = append(found, m)
		}
	}
	slices.SortFunc(found, d.compare)
	return found, answers(d.aliases), nil
}

// compare puts modules into the order in which they were linked; what was not linked with the kernel comes last.
func (d *Dir) compare(a, b *Module) int {
	rank := func(m *Module) int { return cmp.Or(d.rank[m.Name], len(d.rank)+1) }
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
}

// add makes a file that lies anywhere a module of the directory, below extra.
func (d *Dir) add(file string) (name string, err error) {
	name = moduleName(file)
	m := &Module{Name: name, Path: "extra/" + filepath.Base(file), file: file}
	if m.Info, err = readInfo(file); err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[name], d.known[name] = m.Path, m
	return name, nil
}

// byPath gives the name of the module whose file is meant: relative to the directory, or a file anywhere.
func (d *Dir) byPath(path string) (name string, err error) {
	name = moduleName(path)
	rel := strings.TrimPrefix(filepath.Clean(path), d.path+"/")
	if have := d.files[name]; have == rel || have != "" && plainFile(have) == plainFile(rel) {
		return name, nil
	}
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		return d.add(path)
	}
	if have := d.files[name]; have != "" {
		return "", fault.Hintf(fault.New(fault.NotFound, "there is no module %s", path), "%s is in %s", name, have)
	}
	return "", d.unknown(path, name)
}

// unknown says that nothing answers to what was asked for, and what may have been meant.
func (d *Dir) unknown(asked, name string) error {
	err := fault.New(fault.NotFound, "the kernel of %s has no module %s, and nothing that answers to this alias", d.path, asked)
	if near := nearest.To(name, d.Names()); len(near) > 0 {
		return fault.Hintf(err, "did you mean %s?", strings.Join(near, " or "))
	}
	return err
}
