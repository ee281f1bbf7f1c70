package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// sparseFrom is how many bytes of holes a file has that is written with its holes.
const sparseFrom = 64 << 10

// ExportOptions say what an export tells.
type ExportOptions struct {
	// Skipped is told of what the format cannot hold. It may be nil.
	Skipped func(path, what string)
	// Progress is told how many bytes of files have been written; it may be nil.
	Progress func(done, total int64)

	squash bool                            // for mksquashfs: no root, no "./" before the names, times as squashfs has them
	keep   func(xattr string) (why string) // why an attribute is left out, "" when it is not; nil: none is
}

func (o ExportOptions) skip(at, what string) {
	if o.Skipped != nil {
		o.Skipped(format.QuotePath(at), what)
	}
}

// Tar writes the image as a tar archive in the pax format: names of any bytes, times to the nanosecond, extended attributes as
// SCHILY.xattr, access lists also as SCHILY.acl, hard links, holes as GNU tar's sparse format 1.0. Sockets are left out: tar has none. The same image gives the same bytes.
func (i *Image) Tar(ctx context.Context, w io.Writer, o ExportOptions) error {
	root, err := i.Tree(ctx)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<20)
	t := &tarWriter{o: o, pax: paxWriter{w: out}, content: i.content(ctx), total: total(root)}
	defer t.content.Close()
	if err := walk(ctx, root, t.entry); err != nil {
		return fmt.Errorf("export %s as tar: %w", i.Ref, err)
	}
	if err := t.pax.end(); err != nil {
		return fmt.Errorf("export %s as tar: %w", i.Ref, err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("export %s as tar: %w", i.Ref, err)
	}
	return nil
}

type tarWriter struct {
	o           ExportOptions
	pax         paxWriter
	content     *content
	done, total int64
}

func (t *tarWriter) entry(at string, n *erofs.Node, first string) error {
	if t.o.squash && at == "." {
		return nil
	}
	e := paxEntry{name: t.name(at), mode: n.Mode & 0o7777, uid: n.UID, gid: n.GID, time: n.ModTime, records: map[string]string{}}
	if t.o.squash {
		e.time = squashTime(n.ModTime)
	}
	if first != at {
		e.kind, e.link = '1', t.name(first)
		if n.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return nil
		}
		return t.pax.next(e)
	}
	for _, x := range n.Xattrs {
		if t.o.keep != nil && t.o.keep(x.Name) != "" {
			t.o.skip(at, "its attribute "+x.Name+": "+t.o.keep(x.Name))
			continue
		}
		if strings.ContainsAny(x.Name, "=\n") {
			t.o.skip(at, "its attribute "+strconv.Quote(x.Name)+", whose name tar cannot hold")
			continue
		}
		e.records["SCHILY.xattr."+x.Name] = string(x.Value)
		if kind, ok := strings.CutPrefix(x.Name, "system.posix_acl_"); ok {
			if text, ok := aclText(x.Value); ok { // GNU tar passes over the attribute and takes this
				e.records["SCHILY.acl."+kind] = text
			}
		}
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.kind, e.name = '5', e.name+"/"
	case unix.S_IFREG:
		return t.file(at, e, n)
	case unix.S_IFLNK:
		e.kind, e.link = '2', n.Target
	case unix.S_IFBLK, unix.S_IFCHR:
		e.kind = '3'
		if n.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.kind = '4'
		}
		e.major, e.minor = unix.Major(n.Rdev), unix.Minor(n.Rdev)
	case unix.S_IFIFO:
		e.kind = '6'
	case unix.S_IFSOCK:
		t.o.skip(at, "it is a socket, which an archive cannot hold")
		return nil
	default:
		return fault.New(fault.Corrupt, "%q is of no known type: mode %o", at, n.Mode)
	}
	return t.pax.next(e)
}

// name begins with "./", as tar -C DIR . writes it: the root has a name then, and no name can be taken for an option.
func (t *tarWriter) name(at string) string {
	if at == "." || t.o.squash {
		return at
	}
	return "./" + at
}

func (t *tarWriter) file(at string, e paxEntry, n *erofs.Node) error {
	e.kind, e.size = '0', n.Size
	data := int64(len(n.Data))
	for _, x := range n.Extents {
		data += x.Size
	}
	if n.Data == nil && n.Size-data >= sparseFrom {
		return t.sparse(e, n, data)
	}
	if err := t.pax.next(e); err != nil {
		return err
	}
	return t.content.file(n, func(_ int64, piece []byte, size int64) error {
		if piece == nil {
			return t.pax.zeros(size)
		}
		t.progress(size)
		_, err := t.pax.Write(piece)
		return err
	})
}

func (t *tarWriter) progress(n int64) {
	t.done += n
	if t.o.Progress != nil {
		t.o.Progress(t.done, t.total)
	}
}

// sparse writes a file as the runs that are no holes: a map of them first, then one after the other. See "Sparse Formats" in the manual
// of GNU tar.
func (t *tarWriter) sparse(e paxEntry, n *erofs.Node, data int64) error {
	var list bytes.Buffer
	runs := n.Extents
	if k := len(runs); k == 0 || runs[k-1].Offset+runs[k-1].Size < n.Size {
		runs = append(runs[:k:k], erofs.Extent{Offset: n.Size}) // how GNU tar says that the file ends in a hole
	}
	fmt.Fprintf(&list, "%d\n", len(runs))
	for _, x := range runs {
		fmt.Fprintf(&list, "%d\n%d\n", x.Offset, x.Size)
	}
	list.Write(make([]byte, -list.Len()&(tarBlock-1)))
	for k, v := range map[string]string{"major": "1", "minor": "0", "name": e.name, "realsize": strconv.FormatInt(n.Size, 10)} {
		e.records["GNU.sparse."+k] = v
	}
	e.size = int64(list.Len()) + data
	if err := t.pax.next(e); err != nil {
		return err
	}
	if _, err := t.pax.Write(list.Bytes()); err != nil {
		return err
	}
	for _, x := range n.Extents {
		err := t.content.read(x.Device, x.Size, func(_ int64, piece []byte, size int64) error {
			t.progress(size)
			if piece == nil {
				return t.pax.zeros(size)
			}
			_, err := t.pax.Write(piece)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
