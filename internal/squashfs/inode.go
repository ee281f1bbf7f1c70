package squashfs

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Ref is where an inode is. Names that have the same one are hard links.
type Ref uint64

// Inode is a file of any type, without its content.
type Inode struct {
	Ref     Ref
	Mode    uint32 // as in st_mode, type included
	UID     uint32
	GID     uint32
	ModTime time.Time
	Links   uint32
	Number  uint32
	Rdev    uint64 // of a device, as in st_rdev
	Size    int64  // of a regular file
	Target  string // of a symbolic link

	xattr uint32
	dir   dirPlace
	file  filePlace
}

// dirPlace is where a directory's names are.
type dirPlace struct {
	block  uint32
	offset uint16
	size   uint32
}

// filePlace is where a file's content is. The sizes of its blocks stand behind its inode: they are read as the content is.
type filePlace struct {
	start    uint64
	fragment uint32
	offset   uint32
	sizes    cursor
}

// The types of inodes; the extended ones are higher by seven.
const (
	typeDir = 1 + iota
	typeFile
	typeLink
	typeBlock
	typeChar
	typeFifo
	typeSocket
	extended = 7
)

var modes = [...]uint32{
	typeDir: unix.S_IFDIR, typeFile: unix.S_IFREG, typeLink: unix.S_IFLNK, typeBlock: unix.S_IFBLK, typeChar: unix.S_IFCHR,
	typeFifo: unix.S_IFIFO, typeSocket: unix.S_IFSOCK,
}

// Root gives the root directory.
func (x *Reader) Root() (*Inode, error) { return x.Inode(Ref(x.super.Root)) }

// Inode reads the inode that a name refers to.
func (x *Reader) Inode(ref Ref) (*Inode, error) {
	in := &Inode{Ref: ref, xattr: none32}
	if err := x.inode(in); err != nil {
		return nil, fmt.Errorf("inode %#x: %w", uint64(ref), err)
	}
	return in, nil
}

func (x *Reader) inode(in *Inode) error {
	c := x.ref(x.super.InodeTable, uint64(in.Ref))
	var head struct {
		Type, Mode, UID, GID uint16
		ModTime, Number      uint32
	}
	if err := c.decode(&head); err != nil {
		return err
	}
	kind, ext := head.Type, false
	if kind > extended {
		kind, ext = kind-extended, true
	}
	if kind < typeDir || kind > typeSocket {
		return corrupt("it is of type %d, which is not known", head.Type)
	}
	var err error
	if in.UID, err = x.id(head.UID); err != nil {
		return err
	}
	if in.GID, err = x.id(head.GID); err != nil {
		return err
	}
	in.Mode = modes[kind] | uint32(head.Mode)&0o7777
	in.ModTime, in.Number = time.Unix(int64(head.ModTime), 0), head.Number
	switch kind {
	case typeDir:
		return in.directory(c, ext)
	case typeFile:
		return in.regular(c, ext)
	case typeLink:
		return in.link(c, ext)
	case typeBlock, typeChar:
		return in.device(c, ext)
	}
	return in.ipc(c, ext)
}

func (in *Inode) directory(c *cursor, ext bool) error {
	if ext {
		var b struct {
			Links, Size, Block, Parent uint32
			Indexes, Offset            uint16
			Xattr                      uint32
		}
		err := c.decode(&b)
		in.Links, in.xattr, in.dir = b.Links, b.Xattr, dirPlace{b.Block, b.Offset, b.Size}
		return err
	}
	var b struct {
		Block, Links uint32
		Size, Offset uint16
		Parent       uint32
	}
	err := c.decode(&b)
	in.Links, in.dir = b.Links, dirPlace{b.Block, b.Offset, uint32(b.Size)}
	return err
}

func (in *Inode) regular(c *cursor, ext bool) error {
	var b struct {
		Start, Size, Sparse            uint64
		Links, Fragment, Offset, Xattr uint32
	}
	var err error
	if ext {
		err = c.decode(&b)
	} else {
		var s struct{ Start, Fragment, Offset, Size uint32 }
		err = c.decode(&s)
		b.Start, b.Size, b.Fragment, b.Offset, b.Xattr, b.Links = uint64(s.Start), uint64(s.Size), s.Fragment, s.Offset, none32, 1
	}
	if err != nil {
		return err
	}
	if b.Size > math.MaxInt64 {
		return corrupt("it has %d bytes", b.Size)
	}
	in.Links, in.xattr, in.Size = b.Links, b.Xattr, int64(b.Size)
	in.file = filePlace{b.Start, b.Fragment, b.Offset, c.mark()}
	return nil
}

func (in *Inode) link(c *cursor, ext bool) error {
	var b struct{ Links, Size uint32 }
	if err := c.decode(&b); err != nil {
		return err
	}
	if b.Size == 0 || b.Size >= unix.PathMax {
		return corrupt("it is a symbolic link to %d bytes; 1 to %d are possible", b.Size, unix.PathMax-1)
	}
	target, err := c.bytes(int(b.Size))
	if err != nil {
		return err
	}
	in.Links, in.Target = b.Links, string(target)
	return in.attributes(c, ext)
}

func (in *Inode) device(c *cursor, ext bool) error {
	var b struct{ Links, Dev uint32 }
	if err := c.decode(&b); err != nil {
		return err
	}
	major, minor := b.Dev>>8&0xfff, b.Dev&0xff|b.Dev>>12&0xfff00 // new_decode_dev of Linux
	in.Links, in.Rdev = b.Links, unix.Mkdev(major, minor)
	return in.attributes(c, ext)
}

func (in *Inode) ipc(c *cursor, ext bool) error {
	if err := c.decode(&in.Links); err != nil {
		return err
	}
	return in.attributes(c, ext)
}

func (in *Inode) attributes(c *cursor, ext bool) error {
	if !ext {
		return nil
	}
	return c.decode(&in.xattr)
}
