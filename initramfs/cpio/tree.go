package cpio

import (
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Tree collects the entries of an archive. A directory that nobody added is there when something lies in it. The zero value is empty.
type Tree struct {
	// Modes are the permissions of directories that nobody added; those of the others are 0755.
	Modes map[string]uint32

	entries map[string]Entry
}

// Add puts an entry into the tree, in place of one that has its name. A leading / of the name does not count.
func (t *Tree) Add(e Entry) error {
	e.Name = strings.TrimPrefix(e.Name, "/")
	if err := e.check(); err != nil {
		return err
	}
	if t.entries == nil {
		t.entries = map[string]Entry{}
	}
	t.entries[e.Name] = e
	for d := path.Dir(e.Name); d != "."; d = path.Dir(d) {
		if _, ok := t.entries[d]; ok {
			break
		}
		mode := uint32(0o755)
		if m, ok := t.Modes[d]; ok {
			mode = m
		}
		t.entries[d] = Entry{Name: d, Mode: TypeDir | mode}
	}
	return nil
}

// Dir adds a directory.
func (t *Tree) Dir(name string, mode uint32) error {
	return t.Add(Entry{Name: name, Mode: TypeDir | mode})
}

// File adds a file.
func (t *Tree) File(name string, mode uint32, data []byte) error {
	return t.Add(Entry{Name: name, Mode: TypeRegular | mode, Data: data})
}

// Link adds a symbolic link.
func (t *Tree) Link(name, target string) error {
	return t.Add(Entry{Name: name, Mode: TypeSymlink | 0o777, Data: []byte(target)})
}

// Device adds a character device.
func (t *Tree) Device(name string, mode, major, minor uint32) error {
	return t.Add(Entry{Name: name, Mode: TypeChar | mode, Major: major, Minor: minor})
}

// Get gives the entry of the name.
func (t *Tree) Get(name string) (Entry, bool) {
	e, ok := t.entries[name]
	return e, ok
}

// Len is how many entries there are.
func (t *Tree) Len() int { return len(t.entries) }

// Names gives the names in the order in which they are written: a directory comes before what lies in it.
func (t *Tree) Names() []string { return slices.Sorted(maps.Keys(t.entries)) }

// check refuses a tree in which something lies in what is no directory.
func (t *Tree) check() error {
	for name := range t.entries {
		dir := path.Dir(name)
		if dir == "." {
			continue
		}
		if e := t.entries[dir]; e.Type() != TypeDir {
			return fault.Hintf(fault.New(fault.Invalid, "%s cannot be packed: %s is no directory in the same layer", name, dir),
				"put it elsewhere, or the one of them into another layer")
		}
	}
	return nil
}
