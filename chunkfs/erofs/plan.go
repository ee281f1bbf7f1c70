package erofs

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// plan is where everything of an image goes: block 0 with superblock and device table, the inodes from there on, the shared attributes,
// and then whole blocks of directories and of files that have no room behind their inode. The root comes first, since its nid has 16 bits.
type plan struct {
	o        Options
	nodes    []placed // breadth first, so that what lies in one directory is together
	number   map[*Node]uint32
	shared   sharedXattrs
	sharedAt int64 // byte offset; a multiple of BlockSize
	blocksAt int64 // of the whole blocks
	size     int64 // of the metadata
	chunked  bool  // some inode maps chunks
}

// placed is an inode and its place.
type placed struct {
	node   *Node
	off    int64  // of the inode
	size   int64  // what i_size says
	parent uint32 // number of the directory that named it first
	links  uint32
	xattrs int32 // bytes of attributes behind the inode
	tail   int32 // bytes of content behind those
	block  uint32
	layout uint8
	chunk  uint8 // in bits, of layoutChunks
}

func newPlan(root *Node, o Options) (*plan, error) {
	p := &plan{o: o, number: map[*Node]uint32{root: 0}, shared: sharedXattrs{seen: map[[32]byte]int64{}}}
	if root == nil || !isDir(root.Mode) {
		return nil, fault.New(fault.Invalid, "write an EROFS image: the root is not a directory")
	}
	if o.DeviceSize < 0 || o.DeviceSize%BlockSize != 0 {
		return nil, fault.New(fault.Invalid, "write an EROFS image: a data device of %d bytes is not made of whole blocks of %d", o.DeviceSize, BlockSize)
	}
	if err := p.collect(root); err != nil {
		return nil, err
	}
	return p, p.place()
}

// collect finds all inodes, and checks them.
func (p *plan) collect(root *Node) error {
	p.nodes = append(p.nodes, placed{node: root, links: 2})
	for i := 0; i < len(p.nodes); i++ {
		n := p.nodes[i].node
		if err := p.check(n); err != nil {
			return fmt.Errorf("write %s into an EROFS image: %w", p.path(uint32(i)), err)
		}
		for _, e := range n.Entries {
			if err := p.add(uint32(i), e); err != nil {
				return fmt.Errorf("write %s into an EROFS image: %w", p.path(uint32(i)), err)
			}
		}
	}
	return nil
}

// add takes note of a name in a directory.
func (p *plan) add(dir uint32, e Entry) error {
	if e.Node == nil {
		return fault.New(fault.Invalid, "the entry %q has no inode", e.Name)
	}
	at, known := p.number[e.Node]
	switch {
	case known && isDir(e.Node.Mode):
		return fault.New(fault.Invalid, "the directory %q has a second name", e.Name)
	case known:
		p.nodes[at].links++
		return nil
	case len(p.nodes) >= 1<<31:
		return fault.New(fault.Unsupported, "there are more than %d inodes", len(p.nodes))
	}
	p.number[e.Node] = uint32(len(p.nodes))
	next := placed{node: e.Node, parent: dir, links: 1}
	if isDir(e.Node.Mode) {
		next.links = 2
		p.nodes[dir].links++
	}
	p.nodes = append(p.nodes, next)
	return nil
}

// path is the name of an inode, for errors.
func (p *plan) path(i uint32) string {
	var parts []string
	for i != 0 {
		dir := p.nodes[i].parent
		at := slices.IndexFunc(p.nodes[dir].node.Entries, func(e Entry) bool { return e.Node == p.nodes[i].node })
		parts = append(parts, p.nodes[dir].node.Entries[at].Name)
		i = dir
	}
	slices.Reverse(parts)
	return fmt.Sprintf("%q", "/"+strings.Join(parts, "/"))
}

// check looks at all of an inode that does not need its place.
func (p *plan) check(n *Node) error {
	xattrs := sorted(n.Xattrs)
	if err := checkXattrs(xattrs); err != nil {
		return err
	}
	for _, x := range xattrs {
		p.shared.count(x)
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return checkEntries(n)
	case unix.S_IFREG:
		return p.checkContent(n)
	case unix.S_IFLNK:
		if n.Target == "" || len(n.Target) > maxTarget || strings.Contains(n.Target, "\x00") {
			return fault.New(fault.Invalid, "the target of a symbolic link has 1 to %d bytes, without NUL; this one has %d", maxTarget, len(n.Target))
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		if _, ok := encodeDev(n.Rdev); !ok {
			return fault.New(fault.Unsupported, "the device number %d:%d is larger than Linux stores", unix.Major(n.Rdev), unix.Minor(n.Rdev))
		}
	case unix.S_IFIFO, unix.S_IFSOCK:
	default:
		return fault.New(fault.Invalid, "mode %#o has no file type", n.Mode)
	}
	return nil
}

func checkEntries(n *Node) error {
	for i, e := range n.Entries {
		if !goodName(e.Name) {
			return fault.New(fault.Invalid, "%q cannot be the name of a file", e.Name)
		}
		if i > 0 && n.Entries[i-1].Name >= e.Name {
			return fault.New(fault.Invalid, "the names %q and %q are not in order of their bytes", n.Entries[i-1].Name, e.Name)
		}
	}
	return nil
}

func (p *plan) checkContent(n *Node) error {
	switch {
	case n.Size < 0:
		return fault.New(fault.Invalid, "a size of %d bytes", n.Size)
	case n.Data == nil:
		return checkExtents(n.Size, n.Extents, p.o.DeviceSize)
	case len(n.Extents) > 0 || int64(len(n.Data)) != n.Size || n.Size >= BlockSize:
		return fault.New(fault.Invalid, "content within the metadata is all of a file, and less than a block; here %d of %d bytes, and %d extents", len(n.Data), n.Size, len(n.Extents))
	}
	return nil
}
