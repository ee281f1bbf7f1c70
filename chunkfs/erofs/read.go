package erofs

import (
	"io"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Image is an EROFS image that is read. It holds no state of its callers: every method may be called from many goroutines at once.
type Image struct{}

// Inode is what stat(2) shows. A nid is a number of an inode that is the same for as long as the image is.
type Inode struct {
	Nid     uint64
	Mode    uint32 // as in st_mode, type included
	UID     uint32
	GID     uint32
	ModTime time.Time
	Rdev    uint64 // as in st_rdev
	Size    int64
	Links   uint32
}

// Run is a piece of a regular file, from Offset on, Size bytes long (at least 1, at most to the end of the file).
type Run struct {
	Offset int64  // in the file
	Size   int64  // bytes
	Device int64  // where it begins on the data device, or in the image's own file when it has no device; -1: a hole, or Data
	Data   []byte // its Size bytes when they are in the metadata, else nil
}

// Open reads the superblock. What is damaged is Corrupt; features that are not those of a chunkfs image, such as compression, are
// Unsupported. Nothing else is looked at before it is asked for, and r must stay readable until then.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	return nil, fault.New(fault.Unsupported, "read an EROFS image")
}

// Root is the nid of the root directory.
func (im *Image) Root() uint64 { return 0 }

// Inodes is how many the image says it has.
func (im *Image) Inodes() int64 { return 0 }

// DeviceSize is that of the data device in bytes; of an image without one 0.
func (im *Image) DeviceSize() int64 { return 0 }

// Inode reads one inode. A nid that is none is Corrupt.
func (im *Image) Inode(nid uint64) (Inode, error) { return Inode{}, nil }

// ReadDir shows visit the entries of a directory, . and .. included, from a position on (0: all) and in order, until it says false. The
// position i of an entry grows but not by one; the one to go on at is i+1. typ is the type bits of the mode.
func (im *Image) ReadDir(nid uint64, from int, visit func(i int, name string, nid uint64, typ uint32) bool) error {
	return nil
}

// Lookup finds a name in a directory, in time that grows with the logarithm of its size; NotFound.
func (im *Image) Lookup(dir uint64, name string) (uint64, error) { return 0, nil }

// Xattrs reads all extended attributes of an inode, sorted by name.
func (im *Image) Xattrs(nid uint64) ([]Xattr, error) { return nil, nil }

// Xattr reads one extended attribute; NotFound.
func (im *Image) Xattr(nid uint64, name string) ([]byte, error) { return nil, nil }

// Readlink reads the target of a symbolic link; Invalid for anything else.
func (im *Image) Readlink(nid uint64) (string, error) { return "", nil }

// Map says where the content of a regular file at off is. Behind the end the Run's Size is 0.
func (im *Image) Map(nid uint64, off int64) (Run, error) { return Run{}, nil }

// Tree reads the whole image as Nodes; what Write wrote comes back as it was, hard links included, apart from Extents that abut, which
// are one, and times, which are in UTC.
func (im *Image) Tree() (*Node, error) { return nil, nil }
