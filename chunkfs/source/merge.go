package source

import (
	"archive/tar"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Whiteouts, by which a layer takes away what is below it (opencontainers/image-spec, layer.md). Other names with two marks belong to
// AUFS.
const (
	whiteout = ".wh."
	aufsMark = ".wh..wh."
	opaque   = ".wh..wh..opq"
)

// merge is the first pass over the layers of an image: what is where, when all of them are in place.
type merge struct{ tree *tree }

func newMerge() *merge {
	t := newTree()
	t.follow = true
	return &merge{t}
}

// entry takes the entry number n of the layer.
func (m *merge) entry(h *tar.Header, n int) error {
	clean, err := entryPath(h)
	if err != nil {
		return err
	}
	dir, base := path.Split(clean)
	if mark := marked(dir); mark != "" {
		if strings.HasPrefix(mark, aufsMark) {
			return nil
		}
		return damaged("it is in a whiteout")
	}
	if err := m.tree.charge(weight(h)); err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteout) {
		return m.whiteout(dir, base)
	}
	kind, err := kindOf(h)
	if err != nil {
		return err
	}
	in := &inode{kind: kind, layer: m.tree.layer, entry: n}
	if kind == unix.S_IFLNK {
		in.target = h.Linkname
	}
	if clean == "." {
		m.tree.root.inode = in
		return nil
	}
	at, err := m.tree.spot(clean, true)
	if err != nil {
		return err
	}
	if kind == 0 {
		return m.link(h, at)
	}
	m.tree.put(at, in)
	return nil
}

// marked gives the element of a path that is a whiteout.
func marked(dir string) string {
	for name := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(name, whiteout) {
			return name
		}
	}
	return ""
}

func (m *merge) link(h *tar.Header, at spot) error {
	in, err := m.tree.linked(h.Linkname, at)
	if err == nil && in == nil {
		err = damaged("it is not in this layer before it, nor below it")
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", clip(h.Linkname), err)
	}
	if old := at.get(); old == nil || old.inode != in {
		m.tree.put(at, in)
	} else {
		old.layer = m.tree.layer
	}
	return nil
}

func (m *merge) whiteout(dir, base string) error {
	name := strings.TrimPrefix(base, whiteout)
	switch {
	case base == opaque:
		name = "."
	case strings.HasPrefix(base, aufsMark):
		return nil
	case name == "", name == ".", name == "..":
		return damaged("its name is no whiteout")
	}
	at, err := m.tree.spot(dir+name, false)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if base == opaque {
		at.dir.purge(m.tree.layer)
		return nil
	}
	if p := at.get(); p != nil && p.gone(m.tree.layer) {
		delete(at.dir.entries, at.name)
	}
	return nil
}

// purge takes from a directory what layers below this one have put there.
func (p *place) purge(layer int) {
	for name, in := range p.entries {
		if in.gone(layer) {
			delete(p.entries, name)
		}
	}
}

// gone takes what is of layers below this one; it says whether nothing is left. Of a directory in which this layer has put something the
// directory itself is left, as one that nobody has described.
func (p *place) gone(layer int) bool {
	if p.entries == nil {
		return p.layer < layer
	}
	p.purge(layer)
	if p.layer >= layer {
		return false
	}
	p.inode = nil
	return len(p.entries) == 0
}

// winners are the entries of one layer that are left, each with the paths it has in the end, the first one in order of bytes first.
type winners map[int][]string

// winners gives those of every layer.
func (m *merge) winners(layers int) []winners {
	out := make([]winners, layers)
	for i := range out {
		out[i] = winners{}
	}
	var walk func(path string, p *place)
	walk = func(path string, p *place) {
		if in := p.inode; in != nil {
			out[in.layer][in.entry] = append(out[in.layer][in.entry], path)
		}
		names := make([]string, 0, len(p.entries))
		for name := range p.entries {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			walk(join(path, name), p.entries[name])
		}
	}
	walk(".", m.tree.root)
	return out
}
