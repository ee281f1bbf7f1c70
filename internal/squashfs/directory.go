package squashfs

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Every directory's size is said to be larger by this, for . and .., which are not there.
const dirExtra = 3

// maxNames is what one header may speak for.
const maxNames = 256

// ReadDir calls visit for every name in a directory, in its order, which is that of the names' bytes if the image is right. A name has no
// slash and no NUL and is not . or ..; that it is there once is not looked at.
func (x *Reader) ReadDir(dir *Inode, visit func(name string, ref Ref) error) error {
	if dir.Mode&unix.S_IFMT != unix.S_IFDIR {
		return corrupt("inode %#x is not a directory", uint64(dir.Ref))
	}
	left := int64(dir.dir.size) - dirExtra
	c := x.ref(x.super.DirTable, uint64(dir.dir.block)<<16|uint64(dir.dir.offset))
	for left > 0 {
		n, err := x.names(c, left, visit)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// names reads a header and the names it speaks for; n is what they take.
func (x *Reader) names(c *cursor, left int64, visit func(name string, ref Ref) error) (n int64, err error) {
	var head struct{ Count, Block, Number uint32 }
	if err := c.decode(&head); err != nil {
		return 0, listError(err)
	}
	if head.Count >= maxNames {
		return 0, listError(corrupt("a header speaks for %d names", int64(head.Count)+1))
	}
	n = 12
	for range head.Count + 1 {
		var e struct{ Offset, Number, Type, Size uint16 }
		if err := c.decode(&e); err != nil {
			return 0, listError(err)
		}
		size := int64(e.Size) + 1
		if n += 8 + size; n > left || size > unix.NAME_MAX {
			return 0, listError(corrupt("it is longer than it may be"))
		}
		name, err := c.bytes(int(size))
		if err != nil {
			return 0, listError(err)
		}
		if s := string(name); s == "." || s == ".." || strings.ContainsAny(s, "/\x00") {
			return 0, listError(corrupt("a name is %q", s))
		}
		if err := visit(string(name), Ref(uint64(head.Block)<<16|uint64(e.Offset))); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func listError(err error) error { return fmt.Errorf("list a directory: %w", err) }
