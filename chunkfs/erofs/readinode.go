package erofs

import (
	"encoding/binary"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Inode is what stat(2) shows. A nid is a number of an inode that is the same for as long as the image is.
type Inode struct {
	Nid     uint64
	Mode    uint32 // as in st_mode, type included
	UID     uint32
	GID     uint32
	ModTime time.Time // in UTC
	Rdev    uint64    // as in st_rdev
	Size    int64
	Links   uint32
}

// inode is an Inode with what the image needs to read the rest.
type inode struct {
	Inode
	layout int
	union  uint32
	body   int64 // byte offset of the attributes, behind the inode
	xattrs int64 // their bytes
}

// Inode reads one inode. A nid at which none can be is Corrupt.
func (im *Image) Inode(nid uint64) (Inode, error) {
	n, err := im.inode(nid)
	return n.Inode, err
}

func (im *Image) inode(nid uint64) (inode, error) {
	if nid > uint64(im.size/inodeSlot) {
		return inode{}, fault.New(fault.Corrupt, "inode %d lies behind the end of the EROFS image", nid)
	}
	b := buffers.Get().(*[BlockSize]byte)
	defer buffers.Put(b)
	off := im.meta + int64(nid)*inodeSlot
	if err := im.read(off, b[:compactSize]); err != nil {
		return inode{}, err
	}
	format := binary.LittleEndian.Uint16(b[inFormat:])
	size := int64(compactSize)
	if format&formatExtended != 0 {
		size = extendedSize
		if err := im.read(off+compactSize, b[compactSize:extendedSize]); err != nil {
			return inode{}, err
		}
	}
	n := im.decode(b[:size])
	n.Nid, n.body = nid, off+size
	n.layout = int(format >> layoutShift & layoutMask)
	if format>>layoutShift > layoutMask {
		return inode{}, fault.New(fault.Unsupported, "inode %d of the EROFS image has the format %#x", nid, format)
	}
	return n, n.check()
}

// decode reads the fields of an inode whose kind its length tells.
func (im *Image) decode(b []byte) inode {
	le := binary.LittleEndian
	n := inode{union: le.Uint32(b[inUnion:])}
	n.Mode = uint32(le.Uint16(b[inMode:]))
	if count := int64(le.Uint16(b[inXattrs:])); count > 0 {
		n.xattrs = xattrHeader + (count-1)*xattrAlign
	}
	if len(b) == compactSize {
		n.Size = int64(le.Uint32(b[inSize:]))
		n.UID, n.GID = uint32(le.Uint16(b[compactUID:])), uint32(le.Uint16(b[compactGID:]))
		n.Links = uint32(le.Uint16(b[compactLinks:]))
		n.ModTime = im.built
	} else {
		n.Size = int64(le.Uint64(b[inSize:]))
		n.UID, n.GID = le.Uint32(b[extUID:]), le.Uint32(b[extGID:])
		n.Links = le.Uint32(b[extLinks:])
		n.ModTime = time.Unix(int64(le.Uint64(b[extMtime:])), int64(le.Uint32(b[extNsec:]))).UTC()
	}
	if isDevice(n.Mode) {
		n.Rdev = decodeDev(n.union)
	}
	return n
}

func (n *inode) check() error {
	if fileType(n.Mode) == 0 {
		return fault.New(fault.Corrupt, "inode %d of the EROFS image has the mode %#o, which is of no file type", n.Nid, n.Mode)
	}
	if n.Size < 0 || n.Size > math.MaxInt64-BlockSize {
		return fault.New(fault.Corrupt, "inode %d of the EROFS image has a size of %d bytes", n.Nid, uint64(n.Size))
	}
	switch n.layout {
	case layoutPlain, layoutInline:
		return nil
	case layoutChunks:
		if !isReg(n.Mode) || n.union&^(chunkBitsMask|chunkIndexes) != 0 {
			return fault.New(fault.Unsupported, "inode %d of the EROFS image, of mode %#o, is in chunks of the format %#x", n.Nid, n.Mode, n.union)
		}
		return nil
	}
	return fault.New(fault.Unsupported, "inode %d of the EROFS image has its data in layout %d: compressed files are not read here", n.Nid, n.layout)
}

// content reads a piece of a directory or symbolic link, or of the tail of a file, which must not reach over a block of it.
func (im *Image) content(n *inode, off int64, b []byte) error {
	at, err := n.place(off)
	if err != nil {
		return err
	}
	return im.read(at, b)
}

// place is the address of a byte of an inode that is not in chunks.
func (n *inode) place(off int64) (int64, error) {
	tail := n.Size % BlockSize
	if n.layout == layoutPlain || tail == 0 || off < n.Size-tail {
		return int64(n.union)*BlockSize + off, nil
	}
	at := n.body + n.xattrs
	if at%BlockSize+tail > BlockSize {
		return 0, fault.New(fault.Corrupt, "the end of inode %d of the EROFS image, %d bytes behind it, reaches into the next block", n.Nid, tail)
	}
	return at + off%BlockSize, nil
}

// Readlink reads the target of a symbolic link; Invalid for anything else.
func (im *Image) Readlink(nid uint64) (string, error) {
	n, err := im.inode(nid)
	if err != nil {
		return "", err
	}
	return im.readlink(&n)
}

func (im *Image) readlink(n *inode) (string, error) {
	if n.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", fault.New(fault.Invalid, "inode %d is not a symbolic link", n.Nid)
	}
	if n.Size == 0 || n.Size > maxTarget {
		return "", fault.New(fault.Corrupt, "the target of symbolic link %d in the EROFS image has %d bytes", n.Nid, n.Size)
	}
	b := make([]byte, n.Size)
	if err := im.content(n, 0, b); err != nil {
		return "", err
	}
	for _, c := range b {
		if c == 0 {
			return "", fault.New(fault.Corrupt, "the target of symbolic link %d in the EROFS image contains NUL", n.Nid)
		}
	}
	return string(b), nil
}
