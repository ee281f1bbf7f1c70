package erofs

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Tree reads the whole image as Nodes; what Write wrote comes back as it was, hard links included, apart from Extents that abut, which
// are one, and times, which are in UTC. Of an image without a data device the Extents are places in the image's own file, and a Data that
// found no room behind its inode is one, too.
func (im *Image) Tree() (*Node, error) {
	t := &treeReader{Image: im, nodes: map[uint64]*Node{}, shared: map[int64]Xattr{}, left: im.size}
	root, err := t.node(im.root)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(t.dirs); i++ {
		if err := t.fill(t.dirs[i]); err != nil {
			return nil, fmt.Errorf("read directory %d of the EROFS image: %w", t.dirs[i], err)
		}
	}
	return root, nil
}

// treeReader builds a tree. What it reads of an image does not overlap in an honest one, so that the image's size bounds it.
type treeReader struct {
	*Image
	nodes  map[uint64]*Node
	dirs   []uint64        // in the order in which they were met
	shared map[int64]Xattr // by offset
	left   int64           // bytes that may be read still
}

func (t *treeReader) charge(n int64) error {
	if n > t.left {
		return fault.New(fault.Corrupt, "parts of the EROFS image lie over each other: there is more in it than its %d bytes", t.size)
	}
	t.left -= n
	return nil
}

// node reads an inode that was not met before.
func (t *treeReader) node(nid uint64) (*Node, error) {
	in, err := t.inode(nid)
	if err != nil {
		return nil, err
	}
	if err := t.charge(in.body - t.meta - int64(nid)*inodeSlot); err != nil {
		return nil, err
	}
	n := &Node{Mode: in.Mode, UID: in.UID, GID: in.GID, ModTime: in.ModTime, Rdev: in.Rdev}
	t.nodes[nid] = n
	if n.Xattrs, err = t.xattrs(&in); err != nil {
		return nil, err
	}
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		t.dirs = append(t.dirs, nid)
		err = t.charge(in.Size)
	case unix.S_IFLNK:
		if err = t.charge(in.Size); err == nil {
			n.Target, err = t.readlink(&in)
		}
	case unix.S_IFREG:
		err = t.extents(n, &in)
	}
	return n, err
}

// xattrs is Xattrs, with the shared ones in memory once.
func (t *treeReader) xattrs(in *inode) ([]Xattr, error) {
	var list []Xattr
	if err := t.charge(in.xattrs); err != nil {
		return nil, err
	}
	err := t.eachXattr(in, func(e entry) (bool, error) {
		own := e.off >= in.body && e.off < in.body+in.xattrs
		x, ok := t.shared[e.off]
		if !ok {
			var err error
			if !own {
				err = t.charge(e.size())
			}
			if err == nil {
				x, ok, err = t.xattrAt(e)
			}
			if err != nil {
				return false, err
			}
			if ok && !own {
				t.shared[e.off] = x
			}
		}
		if ok {
			list = append(list, x)
		}
		return true, nil
	})
	return sorted(list), err
}

// extents reads what maps a regular file.
func (t *treeReader) extents(n *Node, in *inode) error {
	n.Size = in.Size
	if n.Size == 0 {
		return nil
	}
	if in.layout == layoutChunks {
		bits, entry, _ := in.chunks()
		count := (n.Size-1)>>bits + 1
		if err := t.charge(min(count, t.left+1) * entry); err != nil {
			return err
		}
	}
	for off := int64(0); off < n.Size; {
		run, err := t.run(in, off)
		switch {
		case err != nil:
			return err
		case run.Data != nil && run.Size == n.Size:
			n.Data = run.Data
			return t.charge(run.Size)
		case run.Data != nil:
			return fault.New(fault.Unsupported, "inode %d of the EROFS image has %d bytes, some of them between the inodes", in.Nid, n.Size)
		case run.Device >= 0:
			n.extend(run)
		}
		off += run.Size
	}
	return nil
}

func (n *Node) extend(r Run) {
	if i := len(n.Extents) - 1; i >= 0 {
		if e := &n.Extents[i]; e.Offset+e.Size == r.Offset && e.Device+e.Size == r.Device {
			e.Size += r.Size
			return
		}
	}
	n.Extents = append(n.Extents, Extent{Offset: r.Offset, Device: r.Device, Size: r.Size})
}

// fill reads what a directory lists.
func (t *treeReader) fill(nid uint64) error {
	dir := t.nodes[nid]
	var failed error
	err := t.ReadDir(nid, 0, func(_ int, name string, child uint64, typ uint32) bool {
		if name != "." && name != ".." {
			failed = t.enter(dir, name, child, typ)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// enter puts one name into a directory.
func (t *treeReader) enter(dir *Node, name string, nid uint64, typ uint32) error {
	if i := len(dir.Entries) - 1; i >= 0 && dir.Entries[i].Name >= name {
		return fault.New(fault.Corrupt, "the names %q and %q are not in order", dir.Entries[i].Name, name)
	}
	n, known := t.nodes[nid]
	if known && isDir(n.Mode) {
		return fault.New(fault.Corrupt, "%q is a second name of directory %d", name, nid)
	}
	if !known {
		var err error
		if n, err = t.node(nid); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	if n.Mode&unix.S_IFMT != typ {
		return fault.New(fault.Corrupt, "%q is of type %#o in the directory and %#o in its inode", name, typ, n.Mode&unix.S_IFMT)
	}
	dir.Entries = append(dir.Entries, Entry{Name: name, Node: n})
	return nil
}
