package erofs

import (
	"io"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// BlockSize is that of every image written here, and the only one that is read.
const BlockSize = 4096

// Options are of an image that is written.
type Options struct {
	DeviceSize int64    // of the data device, a multiple of BlockSize; every Extent lies in it
	UUID       [16]byte // of the file system
	// SameDevice makes an image without a data device: the data comes in the same file, behind the metadata that Write has written.
	// An Extent's Device still counts from the data's beginning.
	SameDevice bool
}

// Write writes the metadata of the tree and gives its size, a multiple of BlockSize. The same tree and options give the same bytes. A
// tree that cannot be written, such as one with names out of order, with extents that Align would change or with an extended attribute
// that EROFS has no room for (XattrSupported), is Invalid or Unsupported, and names the path; nothing is written then.
func Write(w io.Writer, root *Node, o Options) (int64, error) {
	return 0, fault.New(fault.Unsupported, "write an EROFS image")
}

// XattrSupported reports whether an image can hold an extended attribute of this name: those of user, trusted and security, and the two
// POSIX ACLs.
func XattrSupported(name string) bool { return false }

// Align gives the runs of a regular file of size bytes that must lie on the device, each in one piece, when those of data have content
// that is not a hole. It takes data by Offset and Size, in order and without overlap, at any byte, and gives runs whose Device is to be
// filled in and whose bytes outside of data are zeros. EROFS maps a file in chunks of one size, so holes smaller than a chunk become
// zeros; the chunk is chosen so that a file never has more than MaxChunks of them. A file without holes is one run, one of nothing else none.
func Align(size int64, data []Extent) []Extent { return data }

// MaxChunks bounds the entries that map one file.
const MaxChunks = 64 << 10
