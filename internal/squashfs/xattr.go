package squashfs

import (
	"encoding/binary"
	"fmt"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Xattr is an extended attribute with its full name.
type Xattr struct {
	Name  string
	Value []byte
}

// xattrTable says where the attributes are: a list of what inodes have, and the attributes themselves.
type xattrTable struct {
	pairs uint64
	count uint32
}

const (
	xattrHead    = 16
	xattrMaxAll  = 1 << 20 // bytes of one inode's; Linux lists no more than 64 KiB of names
	xattrMaxSize = 64 << 10
	xattrFar     = 0x100 // the value is elsewhere: another has the same one
)

func (x *Reader) readXattrTable() error {
	if x.super.XattrTable == none64 {
		return nil
	}
	var head [xattrHead]byte
	if err := x.readAt(head[:], x.super.XattrTable); err != nil {
		return err
	}
	x.xattrs = xattrTable{pairs: binary.LittleEndian.Uint64(head[:]), count: binary.LittleEndian.Uint32(head[8:])}
	return nil
}

// Xattrs gives the extended attributes of an inode, in the order they are in.
func (x *Reader) Xattrs(in *Inode) ([]Xattr, error) {
	if in.xattr == none32 {
		return nil, nil
	}
	list, err := x.xattrsAt(in.xattr)
	if err != nil {
		return nil, fmt.Errorf("inode %#x: its extended attributes: %w", uint64(in.Ref), err)
	}
	return list, nil
}

func (x *Reader) xattrsAt(i uint32) ([]Xattr, error) {
	if i >= x.xattrs.count {
		return nil, corrupt("they are number %d of %d", i, x.xattrs.count)
	}
	const perBlock, size = 512, 16
	where, err := x.tableEntry(x.super.XattrTable+xattrHead, int(i/perBlock))
	if err != nil {
		return nil, err
	}
	var e struct {
		Ref         uint64
		Count, Size uint32
	}
	if err := x.metadata(where, int(i%perBlock)*size).decode(&e); err != nil {
		return nil, err
	}
	c, all := x.ref(x.xattrs.pairs, e.Ref), 0
	var list []Xattr
	for range e.Count {
		a, err := x.xattr(c)
		if err != nil {
			return nil, err
		}
		if all += len(a.Name) + len(a.Value); all > xattrMaxAll {
			return nil, fault.New(fault.TooLarge, "they have more than %d bytes", xattrMaxAll)
		}
		list = append(list, a)
	}
	return list, nil
}

func (x *Reader) xattr(c *cursor) (Xattr, error) {
	var key struct{ Type, Size uint16 }
	if err := c.decode(&key); err != nil {
		return Xattr{}, err
	}
	prefixes := [...]string{"user.", "trusted.", "security."}
	kind := int(key.Type &^ xattrFar)
	if kind >= len(prefixes) || key.Size == 0 || key.Size > 255 {
		return Xattr{}, corrupt("one is of type %d with a name of %d bytes", key.Type, key.Size)
	}
	name, err := c.bytes(int(key.Size))
	if err != nil {
		return Xattr{}, err
	}
	var size uint32
	if err := c.decode(&size); err != nil {
		return Xattr{}, err
	}
	if key.Type&xattrFar != 0 {
		var ref uint64
		if err := c.decode(&ref); err != nil {
			return Xattr{}, err
		}
		c = x.ref(x.xattrs.pairs, ref)
		if err := c.decode(&size); err != nil {
			return Xattr{}, err
		}
	}
	if size > xattrMaxSize {
		return Xattr{}, corrupt("one has %d bytes; %d are possible", size, xattrMaxSize)
	}
	value, err := c.bytes(int(size))
	return Xattr{prefixes[kind] + string(name), value}, err
}
