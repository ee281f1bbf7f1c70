package sametree

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/safepath"
)

// side is one of the trees.
type side struct {
	root string
	// first is the first path in order of each inode that has several names, and names how many of them there are.
	first map[inode]string
	names map[inode]int
}

type inode struct{ dev, ino uint64 }

func newSide(root string) *side {
	return &side{root: root, first: map[inode]string{}, names: map[inode]int{}}
}

func (s *side) at(path string) string { return filepath.Join(s.root, path) }

// link gives the first path of an inode. It sees the paths in their order.
func (s *side) link(path string, st *unix.Stat_t) string {
	id := inode{st.Dev, st.Ino}
	if s.names[id]++; s.names[id] == 1 {
		s.first[id] = path
	}
	return s.first[id]
}

// pair is a path that both trees have.
type pair struct {
	path      string
	want, got unix.Stat_t
}

// walk compares all but content, which it gives to the readers.
func (d *differ) walk() {
	want, got := newSide(d.report.Want), newSide(d.report.Got)
	var linked []pair
	todo := []string{"."}
	for len(todo) > 0 && d.ctx.Err() == nil {
		path := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		p := pair{path: path}
		if !d.stat(want, path, &p.want) || !d.stat(got, path, &p.got) {
			continue
		}
		d.report.Paths++
		kind := p.want.Mode & unix.S_IFMT
		if kind != p.got.Mode&unix.S_IFMT {
			d.say(path, "is %s, want %s", safepath.TypeName(p.got.Mode), safepath.TypeName(p.want.Mode))
			continue
		}
		d.metadata(want, got, &p)
		switch kind {
		case unix.S_IFDIR:
			todo = append(todo, d.list(want, got, path)...)
			continue
		case unix.S_IFLNK:
			d.target(want, got, path)
		}
		again := want.names[inode{p.want.Dev, p.want.Ino}] > 0
		if w, g := want.link(path, &p.want), got.link(path, &p.got); w != g {
			d.say(path, "is %s, want %s", linkWords(path, g), linkWords(path, w))
		} else if kind == unix.S_IFREG && !again && p.want.Size == p.got.Size && !d.o.Metadata {
			d.jobs <- job{path, want.at(path), got.at(path), p.want.Size}
		}
		if p.want.Nlink > 1 || p.got.Nlink > 1 {
			linked = append(linked, p)
		}
	}
	d.counts(want, got, linked)
}

func linkWords(path, first string) string {
	if path == first {
		return "no link of a name before it"
	}
	return fmt.Sprintf("a link of %q", first)
}

// counts compares how many links an inode says that it has, where all of them are in the tree that is right.
func (d *differ) counts(want, got *side, linked []pair) {
	for _, p := range linked {
		id := inode{p.want.Dev, p.want.Ino}
		if uint64(p.want.Nlink) == uint64(want.names[id]) && want.first[id] == p.path && p.got.Nlink != p.want.Nlink {
			d.say(p.path, "has a link count of %d, want %d", p.got.Nlink, p.want.Nlink)
		}
	}
}

func (d *differ) stat(s *side, path string, st *unix.Stat_t) bool {
	if err := unix.Lstat(s.at(path), st); err != nil {
		d.say(path, "stat in %s: %v", s.root, err)
		return false
	}
	return true
}

func (d *differ) metadata(want, got *side, p *pair) {
	w, g := &p.want, &p.got
	if w.Mode != g.Mode {
		d.say(p.path, "has mode %04o, want %04o", g.Mode&0o7777, w.Mode&0o7777)
	}
	if w.Uid != g.Uid || w.Gid != g.Gid {
		d.say(p.path, "is owned by %d:%d, want %d:%d", g.Uid, g.Gid, w.Uid, w.Gid)
	}
	if w.Mtim.Sec != g.Mtim.Sec || w.Mtim.Nsec != g.Mtim.Nsec && !d.o.Seconds {
		d.say(p.path, "was changed at %s, want %s", timeOf(g), timeOf(w))
	}
	switch w.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		if w.Size != g.Size {
			d.say(p.path, "has %d bytes, want %d", g.Size, w.Size)
		}
	case unix.S_IFBLK, unix.S_IFCHR:
		if w.Rdev != g.Rdev {
			d.say(p.path, "is device %d:%d, want %d:%d", unix.Major(g.Rdev), unix.Minor(g.Rdev), unix.Major(w.Rdev), unix.Minor(w.Rdev))
		}
	}
	d.xattrs(want, got, p.path)
}

func timeOf(st *unix.Stat_t) string {
	return time.Unix(st.Mtim.Sec, st.Mtim.Nsec).UTC().Format(time.RFC3339Nano)
}

func (d *differ) target(want, got *side, path string) {
	w, err := os.Readlink(want.at(path))
	if err != nil {
		d.say(path, "%v", err)
	}
	g, err := os.Readlink(got.at(path))
	if err != nil {
		d.say(path, "%v", err)
	}
	if w != g {
		d.say(path, "is a link to %q, want %q", g, w)
	}
}

// list compares the names in a directory. It gives the paths that both have, the last one first.
func (d *differ) list(want, got *side, path string) []string {
	w, g := d.names(want, path), d.names(got, path)
	var both []string
	for name := range w {
		if !g[name] {
			d.say(join(path, name), "is not there")
			continue
		}
		both = append(both, join(path, name))
	}
	for name := range g {
		if !w[name] {
			d.say(join(path, name), "is there, and should not be")
		}
	}
	slices.SortFunc(both, func(a, b string) int { return strings.Compare(b, a) })
	return both
}

// names lists a directory. The types that the listing says are held against those of the files.
func (d *differ) names(s *side, path string) map[string]bool {
	entries, err := os.ReadDir(s.at(path))
	if err != nil {
		d.say(path, "list it in %s: %v", s.root, err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		full := join(path, e.Name())
		if d.o.Path != nil && !d.o.Path(full) {
			continue
		}
		if names[e.Name()] {
			d.say(full, "is listed twice in %s", s.root)
		}
		names[e.Name()] = true
		if info, err := e.Info(); err == nil && info.Mode().Type() != e.Type() {
			d.say(full, "is listed in %s as %v and is %v", s.root, e.Type(), info.Mode().Type())
		}
	}
	return names
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
