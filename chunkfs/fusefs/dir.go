package fusefs

import (
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
)

// ReadDir lists a directory from the position that the kernel has got to.
func (f *fs) ReadDir(_ <-chan struct{}, input *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(input, func(e fuse.DirEntry) bool { return out.AddDirEntry(e) })
}

// ReadDirPlus gives the attributes with the names. An entry whose inode cannot be read is listed all the same, and fails when it is
// looked at.
func (f *fs) ReadDirPlus(_ <-chan struct{}, input *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.list(input, func(e fuse.DirEntry) bool {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			return false
		}
		if e.Name == "." || e.Name == ".." {
			return true // the kernel wants no node for these
		}
		if in, err := f.img.Inode(e.Ino); err == nil {
			f.entry(&in, entry)
		}
		return true
	})
}

func (f *fs) list(input *fuse.ReadIn, add func(fuse.DirEntry) bool) fuse.Status {
	dir, code := f.inode(input.NodeId)
	if !code.Ok() {
		return code
	}
	if input.Offset > math.MaxInt {
		return fuse.EINVAL
	}
	return status(f.readDir(dir, int(input.Offset), add))
}

func (f *fs) readDir(dir erofs.Inode, from int, add func(fuse.DirEntry) bool) error {
	return f.img.ReadDir(dir.Nid, from, func(i int, name string, nid uint64, typ uint32) bool {
		return add(fuse.DirEntry{Name: name, Ino: nid, Mode: typ, Off: uint64(i) + 1})
	})
}
