package fusefs

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// attr is what stat(2) shows, the same as of kernel EROFS: all three times are the one that there is.
func attr(in *erofs.Inode, out *fuse.Attr) {
	sec, nsec := uint64(in.ModTime.Unix()), uint32(in.ModTime.Nanosecond())
	*out = fuse.Attr{
		Ino:     in.Nid,
		Size:    uint64(in.Size),
		Blocks:  uint64(in.Size+erofs.BlockSize-1) / erofs.BlockSize * (erofs.BlockSize / 512),
		Atime:   sec,
		Mtime:   sec,
		Ctime:   sec,
		Mode:    in.Mode,
		Nlink:   in.Links,
		Owner:   fuse.Owner{Uid: in.UID, Gid: in.GID},
		Rdev:    rdev(in.Rdev),
		Blksize: erofs.BlockSize,

		Atimensec: nsec, Mtimensec: nsec, Ctimensec: nsec,
	}
}

// rdev packs a device number as FUSE has it: Linux's new_encode_dev.
func rdev(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// entry is an answer to a name.
func (f *fs) entry(in *erofs.Inode, out *fuse.EntryOut) {
	out.NodeId = f.node(in.Nid)
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	attr(in, &out.Attr)
}

// Lookup finds a name. That one is not there is an answer, too, which the kernel keeps.
func (f *fs) Lookup(_ <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir, code := f.inode(header.NodeId)
	if !code.Ok() {
		return code
	}
	if dir.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fuse.ENOTDIR
	}
	if len(name) > maxName {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	nid, err := f.img.Lookup(dir.Nid, name)
	if fault.Is(err, fault.NotFound) {
		out.SetEntryTimeout(forever)
		return fuse.OK
	}
	var in erofs.Inode
	if err == nil {
		in, err = f.img.Inode(nid)
	}
	if err == nil {
		f.entry(&in, out)
	}
	return status(err)
}

const maxName = 255

// GetAttr needs no open file.
func (f *fs) GetAttr(_ <-chan struct{}, input *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	in, code := f.inode(input.NodeId)
	if code.Ok() {
		out.SetTimeout(forever)
		attr(&in, &out.Attr)
	}
	return code
}

// Readlink gives a target.
func (f *fs) Readlink(_ <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	in, code := f.inode(header.NodeId)
	if !code.Ok() {
		return nil, code
	}
	target, err := f.img.Readlink(in.Nid)
	return []byte(target), status(err)
}

// StatFs counts metadata and data, all of it used.
func (f *fs) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{
		Blocks: uint64(f.img.Size()+f.img.DeviceSize()) / erofs.BlockSize, Files: uint64(f.img.Inodes()),
		Bsize: erofs.BlockSize, Frsize: erofs.BlockSize, NameLen: maxName,
	}
	return fuse.OK
}
