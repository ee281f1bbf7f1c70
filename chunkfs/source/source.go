// Package source reads what an image is built from: a directory, a tar, a squashfs, an OCI image. All of it but the directory is
// hostile: paths that leave the root, links through links, sizes that lie.
package source

import (
	"context"
	"io"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
)

// Item is one thing that a source holds.
type Item struct {
	// Path is relative, clean, without a leading slash; "." is the root. A later item of the same path replaces the earlier one, with what
	// was in it; only a directory that comes again keeps its entries.
	Path string
	// Node has all but Entries, Extents and Data. The same Node under a second path is a hard link.
	Node *erofs.Node
	// Open gives the content of a regular file; nil for one without and for a second path of a Node. Of a source that is not Random it
	// may be called only until visit returns, and only once.
	Open func() (Content, error)
	// Version is other bytes whenever the content of this file may be another one, also from one reading of the source to the next and
	// across sources of this machine; empty when that cannot be said.
	Version string
}

// Content is what is in a regular file: Node.Size bytes from its beginning on. Read gives holes as zeros. It ends with io.EOF after the
// last byte and with nothing else unless all of them were there. Close says whether the file changed while it was read.
type Content interface {
	io.ReadCloser
	// NextData says where data goes on at or after off, and where that run ends; io.EOF when only a hole is left. Read goes on at start
	// then, so that holes need not be read. off is not before what has been read. It may answer that all is data; start and end need not
	// be on a block's border.
	NextData(off int64) (start, end int64, err error)
}

// visitor tells an error of visit, which Walk gives as it is, from one of the source.
type visitor struct {
	visit func(Item) error
	err   error
}

func (v *visitor) do(i Item) error {
	v.err = v.visit(i)
	return v.err
}

// Source is a tree that is read once. The order of visits is the same for the same input; a directory may come after what it holds, or
// not at all (then it is root's, mode 0755, of time 0).
type Source interface {
	// Walk calls visit for every item until it fails, and gives its error as it is.
	Walk(ctx context.Context, visit func(Item) error) error
	// Random says that Open may be called after Walk, in any order and by several at once, until Close.
	Random() bool
	// Total estimates the bytes that Walk will read of the input, for progress; 0 when not known. Done says how many it has read.
	Total() int64
	Done() int64
	Close() error
}
