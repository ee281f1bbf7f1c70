package image

import (
	"context"
	"path"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxDepth is how deep directories may lie in each other: an image comes from anybody, and each level takes stack, or a descriptor.
const maxDepth = 4096

// checkDepth refuses a tree that is deeper. All that walks trees here relies on it.
func checkDepth(root *erofs.Node) error {
	level := []*erofs.Node{root}
	for range maxDepth + 1 {
		var next []*erofs.Node
		for _, n := range level {
			for _, e := range n.Entries {
				if isDir(e.Node) {
					next = append(next, e.Node)
				}
			}
		}
		if len(next) == 0 {
			return nil
		}
		level = next
	}
	return fault.New(fault.Unsupported, "its directories lie more than %d deep", maxDepth)
}

// visitor is called for every name of a tree, a directory before what it holds, in the order of the names. first is the path of the
// first name of an inode that has several, and the same as at for that one.
type visitor func(at string, n *erofs.Node, first string) error

// walk visits a tree; the root is ".".
func walk(ctx context.Context, root *erofs.Node, visit visitor) error {
	w := &walker{ctx: ctx, visit: visit, names: names(root), first: map[*erofs.Node]string{}}
	return w.node(".", root)
}

type walker struct {
	ctx   context.Context //nolint:containedctx // it is one operation
	visit visitor
	names map[*erofs.Node]int
	first map[*erofs.Node]string
}

func (w *walker) node(at string, n *erofs.Node) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	first := at
	if w.names[n] > 1 {
		if f, seen := w.first[n]; seen {
			first = f
		} else {
			w.first[n] = at
		}
	}
	if err := w.visit(at, n, first); err != nil {
		return err
	}
	for _, e := range n.Entries {
		if err := w.node(path.Join(at, e.Name), e.Node); err != nil {
			return err
		}
	}
	return nil
}

// names counts the names of those inodes that are no directories.
func names(root *erofs.Node) map[*erofs.Node]int {
	count := map[*erofs.Node]int{}
	todo := []*erofs.Node{root}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, e := range n.Entries {
			if isDir(e.Node) {
				todo = append(todo, e.Node)
			} else {
				count[e.Node]++
			}
		}
	}
	return count
}

func isDir(n *erofs.Node) bool  { return n.Mode&unix.S_IFMT == unix.S_IFDIR }
func isFile(n *erofs.Node) bool { return n.Mode&unix.S_IFMT == unix.S_IFREG }

func isDevice(n *erofs.Node) bool {
	return n.Mode&unix.S_IFMT == unix.S_IFBLK || n.Mode&unix.S_IFMT == unix.S_IFCHR
}

// total is the bytes of all regular files, each once, holes aside.
func total(root *erofs.Node) (sum int64) {
	for n := range names(root) {
		sum += int64(len(n.Data))
		for _, e := range n.Extents {
			sum += e.Size
		}
	}
	return sum
}
