package source

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// What the entries of an archive may take of memory, all together: more than any root file system has.
const (
	maxEntries = 10_000_000
	maxMeta    = 1 << 30 // bytes of names, link targets and extended attributes
	maxHops    = 40      // symbolic links in one path, as in the kernel
)

// tree is what the entries of an archive have made so far: names and links, without content. By it a path that leads through a symbolic
// link is found out, and what a hard link means.
type tree struct {
	root *place
	// follow says that a symbolic link in the middle of a path leads where it points to, inside the root, as when layers are unpacked one
	// over the other. Otherwise such a path is an error.
	follow  bool
	layer   int // that comes now
	entries int
	meta    int64
}

// place is what is at a path.
type place struct {
	entries map[string]*place // of a directory; else nil
	inode   *inode            // nil: a directory that no entry speaks of
	layer   int               // by which it is there
}

// inode is what an entry made: the same one at several places is a hard link.
type inode struct {
	node   *erofs.Node // of a tar; of layers it is made in the second pass
	target string      // of a symbolic link
	kind   uint32      // S_IFMT of the mode; 0: a hard link to what is not there yet
	layer  int
	entry  int // number of the entry in the layer
}

func newTree() *tree { return &tree{root: &place{entries: map[string]*place{}}} }

// charge counts what an entry takes.
func (t *tree) charge(n int) error {
	t.entries++
	t.meta += int64(n)
	if t.entries > maxEntries || t.meta > maxMeta {
		return fault.New(fault.TooLarge, "there are more than %d entries or more than %d bytes of names and attributes", maxEntries, maxMeta)
	}
	return nil
}

// spot is a name in a directory.
type spot struct {
	dir  *place
	path string // of the directory, without links; "" is the root
	name string
}

func (s spot) String() string {
	if s.path == "" {
		return s.name
	}
	return s.path + "/" + s.name
}

func (s spot) get() *place { return s.dir.entries[s.name] }

// spot gives the place for a clean path that is not the root. Directories above it that are not there are made if create is set; else
// it is an error of kind NotFound.
func (t *tree) spot(clean string, create bool) (spot, error) {
	dir, name := path.Split(clean)
	w := steps{t: t, create: create, at: []*place{t.root}}
	if err := w.through(strings.TrimSuffix(dir, "/")); err != nil {
		return spot{}, err
	}
	return spot{dir: w.at[len(w.at)-1], path: strings.Join(w.names, "/"), name: name}, nil
}

// steps are the directories from the root to a place.
type steps struct {
	t      *tree
	create bool
	at     []*place // the root first
	names  []string // one less
	hops   int
}

func (w *steps) through(dir string) error {
	for name := range strings.SplitSeq(dir, "/") {
		switch name {
		case "", ".":
			continue
		case "..": // only of a link; that of the root is the root
			if len(w.names) > 0 {
				w.at, w.names = w.at[:len(w.at)-1], w.names[:len(w.names)-1]
			}
			continue
		}
		if err := w.step(name); err != nil {
			return err
		}
	}
	return nil
}

func (w *steps) step(name string) error {
	here := w.at[len(w.at)-1]
	next := here.entries[name]
	switch {
	case next == nil && !w.create:
		return fault.New(fault.NotFound, "there is no %q", clip(name))
	case next == nil:
		next = &place{entries: map[string]*place{}, layer: w.t.layer}
		if err := w.t.charge(len(name)); err != nil {
			return err
		}
		here.entries[name] = next
	case next.entries != nil:
	case next.inode.kind != unix.S_IFLNK:
		return damaged("%q, in which it lies, is not a directory", clip(name))
	case !w.t.follow:
		return damaged("it lies behind the symbolic link %q", clip(name))
	default:
		return w.link(next.inode.target)
	}
	w.at, w.names = append(w.at, next), append(w.names, name)
	if len(w.names) > maxPath {
		return damaged("it lies more than %d directories deep", maxPath)
	}
	return nil
}

func (w *steps) link(target string) error {
	if w.hops++; w.hops > maxHops {
		return damaged("it lies behind more than %d symbolic links", maxHops)
	}
	if strings.HasPrefix(target, "/") {
		w.at, w.names = w.at[:1], w.names[:0]
	}
	return w.through(target)
}

// put makes what is at s what an entry says; what was there goes, but a directory stays one with its entries.
func (t *tree) put(s spot, in *inode) {
	old := s.get()
	p := &place{inode: in, layer: t.layer}
	if in.kind == unix.S_IFDIR {
		p.entries = map[string]*place{}
		if old != nil && old.entries != nil {
			p.entries = old.entries
		}
	}
	s.dir.entries[s.name] = p
}

// checkPath refuses names that no Linux file system has.
func checkPath(clean string) error {
	if len(clean) >= maxPath {
		return damaged("its path has %d bytes; %d are possible", len(clean), maxPath-1)
	}
	for name := range strings.SplitSeq(clean, "/") {
		if len(name) > unix.NAME_MAX {
			return damaged("it has a name of %d bytes in its path; %d are possible", len(name), unix.NAME_MAX)
		}
	}
	return nil
}

// damaged is an error of kind Corrupt; what is around it names the entry.
func damaged(format string, args ...any) error { return fault.New(fault.Corrupt, format, args...) }
