package erofs

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Xattrs reads all extended attributes of an inode, sorted by name. One whose prefix Linux does not know is left out, as it is there.
func (im *Image) Xattrs(nid uint64) ([]Xattr, error) {
	n, err := im.inode(nid)
	if err != nil {
		return nil, err
	}
	var list []Xattr
	total := int64(0)
	err = im.eachXattr(&n, func(e entry) (bool, error) {
		if total += e.size(); total > maxXattrs {
			return false, fault.New(fault.Corrupt, "the extended attributes of inode %d in the EROFS image take more than %d bytes", nid, maxXattrs)
		}
		x, ok, err := im.xattrAt(e)
		if ok {
			list = append(list, x)
		}
		return true, err
	})
	slices.SortStableFunc(list, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// Xattr reads one extended attribute; NotFound.
func (im *Image) Xattr(nid uint64, name string) ([]byte, error) {
	n, err := im.inode(nid)
	if err != nil {
		return nil, err
	}
	index, rest, ok := splitXattr(name)
	missing := fault.New(fault.NotFound, "inode %d has no extended attribute %q", nid, name)
	if !ok {
		return nil, missing
	}
	value, found := []byte(nil), false
	err = im.eachXattr(&n, func(e entry) (bool, error) {
		if e.index != index || e.name != int64(len(rest)) {
			return true, nil
		}
		x, ok, err := im.xattrAt(e)
		if value, found = x.Value, ok && x.Name == name; found || err != nil {
			return false, err
		}
		return true, nil
	})
	if err == nil && !found {
		err = missing
	}
	return value, err
}

// entry is the head of an attribute, and where it is.
type entry struct {
	off   int64
	index byte
	name  int64 // bytes
	value int64 // bytes
}

func (e entry) size() int64 { return roundUp(xattrEntry+e.name+e.value, xattrAlign) }

func (im *Image) entryAt(off int64) (entry, error) {
	b := buffers.Get().(*[BlockSize]byte)
	defer buffers.Put(b)
	if err := im.read(off, b[:xattrEntry]); err != nil {
		return entry{}, err
	}
	return entry{off, b[1], int64(b[0]), int64(binary.LittleEndian.Uint16(b[2:]))}, nil
}

// xattrAt reads an attribute; not ok is one whose prefix is not known.
func (im *Image) xattrAt(e entry) (Xattr, bool, error) {
	if int(e.index) >= len(prefixes) || prefixes[e.index] == "" {
		return Xattr{}, false, nil
	}
	b := make([]byte, e.name+e.value)
	if err := im.read(e.off+xattrEntry, b); err != nil {
		return Xattr{}, false, err
	}
	x := Xattr{prefixes[e.index] + string(b[:e.name]), b[e.name:]}
	if !XattrSupported(x.Name) {
		return Xattr{}, false, fault.New(fault.Corrupt, "the EROFS image has an extended attribute of the name %q", x.Name)
	}
	return x, true, nil
}

// eachXattr shows visit the attributes of an inode, the shared ones first, until it says false.
func (im *Image) eachXattr(n *inode, visit func(entry) (bool, error)) error {
	if n.xattrs == 0 {
		return nil
	}
	var head [xattrHeader + 255*xattrAlign]byte
	if err := im.read(n.body, head[:xattrHeader]); err != nil {
		return err
	}
	shared := int64(head[xattrSharedCount]) * xattrAlign
	if xattrHeader+shared > n.xattrs {
		return fault.New(fault.Corrupt, "inode %d of the EROFS image has %d shared attributes in %d bytes", n.Nid, head[xattrSharedCount], n.xattrs)
	}
	if err := im.read(n.body+xattrHeader, head[xattrHeader:xattrHeader+shared]); err != nil {
		return err
	}
	for at := int64(xattrHeader); at < xattrHeader+shared; at += xattrAlign {
		e, err := im.entryAt(im.xattr + int64(binary.LittleEndian.Uint32(head[at:]))*xattrAlign)
		if err != nil {
			return err
		}
		if more, err := visit(e); err != nil || !more {
			return err
		}
	}
	return im.ownXattrs(n, n.body+xattrHeader+shared, visit)
}

// ownXattrs goes over the attributes that stand behind the inode, from off on.
func (im *Image) ownXattrs(n *inode, off int64, visit func(entry) (bool, error)) error {
	for end := n.body + n.xattrs; off < end; {
		e, err := im.entryAt(off)
		if err != nil {
			return err
		}
		if e.size() > end-off {
			return fault.New(fault.Corrupt, "an extended attribute of inode %d in the EROFS image reaches behind those of the inode", n.Nid)
		}
		if more, err := visit(e); err != nil || !more {
			return err
		}
		off += e.size()
	}
	return nil
}
