package build

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// tree puts what a source holds together.
type tree struct {
	root *dir
	// The directory of the last item, since most come in the order of directories.
	last     *dir
	lastPath string
}

// dir is a directory while it grows. Node.Entries are filled in at the end.
type dir struct {
	node  *erofs.Node
	names map[string]*entry
}

// entry is what a name stands for; dir is nil unless it is a directory.
type entry struct {
	node *erofs.Node
	dir  *dir
}

func newTree() *tree {
	root := newDir(missing())
	return &tree{root: root, last: root, lastPath: "."}
}

func newDir(n *erofs.Node) *dir { return &dir{node: n, names: map[string]*entry{}} }

// missing is a directory that the source does not speak of.
func missing() *erofs.Node { return &erofs.Node{Mode: unix.S_IFDIR | 0o755, ModTime: time.Unix(0, 0)} }

func isDir(n *erofs.Node) bool { return n.Mode&unix.S_IFMT == unix.S_IFDIR }

// put gives the node its name. What the name stood for is replaced, but a directory that comes again keeps what is in it.
func (t *tree) put(path string, n *erofs.Node) error {
	if path == "." {
		if !isDir(n) {
			return fault.New(fault.Invalid, "the root of the source is not a directory")
		}
		t.root.node = n
		return nil
	}
	parent, name := t.parent(path)
	old := parent.names[name]
	switch {
	case !isDir(n):
		parent.names[name] = &entry{node: n}
		if old != nil && old.dir != nil {
			t.last, t.lastPath = t.root, "." // it may have been in what is no more
		}
	case old != nil && old.dir != nil:
		old.node, old.dir.node = n, n
	default:
		parent.names[name] = &entry{node: n, dir: newDir(n)}
	}
	return nil
}

// parent gives the directory that path is in, and the name in it. What is missing on the way, or is not a directory, becomes one.
func (t *tree) parent(path string) (*dir, string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return t.root, path
	}
	if path[:i] == t.lastPath {
		return t.last, path[i+1:]
	}
	d := t.root
	for name := range strings.SplitSeq(path[:i], "/") {
		e := d.names[name]
		if e == nil || e.dir == nil {
			n := missing()
			e = &entry{node: n, dir: newDir(n)}
			d.names[name] = e
		}
		d = e.dir
	}
	t.last, t.lastPath = d, path[:i]
	return d, path[i+1:]
}

// finish sorts all entries into the nodes and gives the root.
func (t *tree) finish() *erofs.Node {
	t.root.finish()
	return t.root.node
}

func (d *dir) finish() {
	d.node.Entries = make([]erofs.Entry, 0, len(d.names))
	for name, e := range d.names {
		d.node.Entries = append(d.node.Entries, erofs.Entry{Name: name, Node: e.node})
		if e.dir != nil {
			e.dir.finish()
		}
	}
	slices.SortFunc(d.node.Entries, func(a, b erofs.Entry) int { return strings.Compare(a.Name, b.Name) })
	d.names = nil
}
