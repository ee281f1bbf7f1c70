// Package erofs writes and reads the metadata of a chunkfs image: an EROFS image whose regular files have their data on an extra device
// (or on the same one, for an export), with no compression of its own. docs/chunkfs/format.md says which part of EROFS is used.
//
// The writer's output is valid for the kernel and for erofs-utils, and the same for the same tree. The reader takes hostile input.
package erofs

import "time"

// Node is one inode. Hard links are the same Node under several names.
type Node struct {
	Mode    uint32 // as in st_mode, type included
	UID     uint32
	GID     uint32
	ModTime time.Time
	Rdev    uint64 // of a device node, as in st_rdev
	Size    int64  // of a regular file
	Target  string // of a symbolic link
	Xattrs  []Xattr
	Entries []Entry  // of a directory, sorted by name in bytes; without . and ..
	Extents []Extent // of a regular file, by offset; what lies between them is a hole
	Data    []byte   // of a regular file: the whole of it, kept in the metadata in place of Extents; less than a block
}

// Entry is a name in a directory: any bytes but NUL and '/', 1 to 255 of them.
type Entry struct {
	Name string
	Node *Node
}

// Xattr is an extended attribute with its full name, such as security.capability or system.posix_acl_access.
type Xattr struct {
	Name  string
	Value []byte
}

// Extent is a run of a file on the data device. Offset and Device are multiples of the block size; the last one's Size need not be.
type Extent struct {
	Offset int64 // in the file
	Device int64 // on the data device
	Size   int64
}
