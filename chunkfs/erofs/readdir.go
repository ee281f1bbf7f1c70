package erofs

import (
	"encoding/binary"
	"sort"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// perBlock is above the entries that a block can have, so that positions in different blocks differ.
const perBlock = 512

// dirBlock is one block of a directory.
type dirBlock struct {
	b []byte
	n int // entries
}

// dirBlock reads block i of a directory into b. What it gives is valid as long as b is.
func (im *Image) dirBlock(dir *inode, i int64, b *[BlockSize]byte) (dirBlock, error) {
	d := dirBlock{b: b[:min(BlockSize, dir.Size-i*BlockSize)]}
	if len(d.b) < direntSize {
		return d, dir.corrupt("its block %d has %d bytes", i, len(d.b))
	}
	if err := im.content(dir, i*BlockSize, d.b); err != nil {
		return d, err
	}
	first := d.offset(0)
	if first%direntSize != 0 || first < direntSize || first > len(d.b) {
		return d, dir.corrupt("the names of its block %d begin at %d", i, first)
	}
	d.n = first / direntSize
	return d, nil
}

func (n *inode) corrupt(format string, args ...any) error {
	return fault.New(fault.Corrupt, "directory %d of the EROFS image is damaged: "+format, append([]any{n.Nid}, args...)...)
}

func (d dirBlock) offset(i int) int {
	return int(binary.LittleEndian.Uint16(d.b[i*direntSize+8:]))
}

// name gives the bytes of a name, or nil when they cannot be one.
func (d dirBlock) name(i int) []byte {
	start, end := d.offset(i), len(d.b)
	if i+1 < d.n {
		end = d.offset(i + 1)
	}
	if start < d.n*direntSize || start >= end || end > len(d.b) {
		return nil
	}
	name := d.b[start:end]
	if i+1 == d.n {
		name = beforeNUL(name) // the last one may be padded
	}
	if len(name) > maxName || !goodName(string(name)) && string(name) != "." && string(name) != ".." {
		return nil
	}
	return name
}

func beforeNUL(b []byte) []byte {
	for i, c := range b {
		if c == 0 {
			return b[:i]
		}
	}
	return b
}

func (d dirBlock) entry(i int) (nid uint64, typ uint32) {
	e := d.b[i*direntSize:]
	if t := int(e[10]); t < len(fileTypes) {
		typ = fileTypes[t]
	}
	return binary.LittleEndian.Uint64(e), typ
}

func (im *Image) directory(nid uint64) (inode, error) {
	n, err := im.inode(nid)
	if err == nil && !isDir(n.Mode) {
		err = fault.New(fault.Invalid, "inode %d is not a directory", nid)
	}
	return n, err
}

// ReadDir shows visit the entries of a directory, . and .. included, from a position on (0: all) and in order, until it says false. The
// position i of an entry grows but not by one; the one to go on at is i+1. typ is the type bits of the mode, 0 when the image does not
// say it.
func (im *Image) ReadDir(nid uint64, from int, visit func(i int, name string, nid uint64, typ uint32) bool) error {
	dir, err := im.directory(nid)
	if err != nil {
		return err
	}
	b := buffers.Get().(*[BlockSize]byte)
	defer buffers.Put(b)
	for block, at := int64(from/perBlock), max(from, 0)%perBlock; block >= 0 && block < blocks(dir.Size); block, at = block+1, 0 {
		d, err := im.dirBlock(&dir, block, b)
		if err != nil {
			return err
		}
		for i := at; i < d.n; i++ {
			name := d.name(i)
			if name == nil {
				return dir.corrupt("the name of entry %d of its block %d", i, block)
			}
			nid, typ := d.entry(i)
			if !visit(int(block)*perBlock+i, string(name), nid, typ) {
				return nil
			}
		}
	}
	return nil
}

// Lookup finds a name in a directory, in time that grows with the logarithm of its size; NotFound.
func (im *Image) Lookup(nid uint64, name string) (uint64, error) {
	dir, err := im.directory(nid)
	if err != nil {
		return 0, err
	}
	b := buffers.Get().(*[BlockSize]byte)
	defer buffers.Put(b)
	var d dirBlock
	// The block is the last one whose first name is not behind ours.
	after := sort.Search(int(blocks(dir.Size)), func(i int) bool {
		if err != nil {
			return true
		}
		d, err = im.dirBlock(&dir, int64(i), b)
		return err == nil && string(d.name(0)) > name
	})
	if err == nil && after > 0 {
		d, err = im.dirBlock(&dir, int64(after-1), b)
	}
	if err != nil {
		return 0, err
	}
	i, found := sort.Find(d.n, func(i int) int { return strings.Compare(name, string(d.name(i))) })
	if after == 0 || !found {
		return 0, fault.New(fault.NotFound, "%q is not in directory %d", name, nid)
	}
	child, _ := d.entry(i)
	return child, nil
}
