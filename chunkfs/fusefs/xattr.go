package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// GetXAttr gives a value, or its length when dest has no room.
func (f *fs) GetXAttr(_ <-chan struct{}, header *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	in, code := f.inode(header.NodeId)
	if !code.Ok() {
		return 0, code
	}
	value, err := f.img.Xattr(in.Nid, name)
	if fault.Is(err, fault.NotFound) {
		return 0, fuse.ENOATTR
	}
	if err != nil {
		return 0, status(err)
	}
	return give(value, dest)
}

// ListXAttr gives the names. More than Linux lets a list have is E2BIG, as in other file systems.
func (f *fs) ListXAttr(_ <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	in, code := f.inode(header.NodeId)
	if !code.Ok() {
		return 0, code
	}
	list, err := f.img.Xattrs(in.Nid)
	if err != nil {
		return 0, status(err)
	}
	var names []byte
	for _, x := range list {
		names = append(append(names, x.Name...), 0)
	}
	if len(names) > maxList {
		return 0, fuse.Status(syscall.E2BIG)
	}
	return give(names, dest)
}

const maxList = 64 << 10 // XATTR_LIST_MAX

func give(b, dest []byte) (uint32, fuse.Status) {
	if len(b) > len(dest) {
		return uint32(len(b)), fuse.ERANGE
	}
	return uint32(copy(dest, b)), fuse.OK
}
