// Package unpack lays the content of a tar archive out in a directory.
//
// It owns nothing but what it creates below that directory, and never touches anything outside it: every name is resolved by the
// kernel beneath the directory's descriptor and through no symbolic link. It never decides where the bytes come from, nor whether they
// are the right ones: it takes the archive as hostile. How much memory or disk an archive may take is the directory's file system's
// to say; Options.Limit bounds the work.
package unpack

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Options are for one archive.
type Options struct {
	// Limit bounds the bytes of the archive, decompressed, and apart from that of all files in it, holes included; 0: no bound.
	// Neither costs memory, but both cost time: an archive can overwrite one file for ever, and a sparse file can be all hole.
	Limit int64
	// Unmarked takes an archive without an end mark as whole: a digest vouches for its length.
	Unmarked bool
}

// Report says what was unpacked.
type Report struct {
	Entries int
	Bytes   int64 // content of files, holes included
	// SkippedXattrs counts extended attributes that were left out: of a class that is not kept (see keepXattr), or not supported by
	// the file system.
	SkippedXattrs int
}

// Tar unpacks the archive that r gives, decompressed, into dir, which is empty and which nobody else writes to. It needs root: owners,
// modes with setuid bits, devices and capabilities are made as the archive says. What comes later in an archive replaces what came
// before. It returns soon after ctx ends.
//
// An error names the entry. It is of kind Corrupt when the archive is damaged, is cut off or does what an archive of a system does not
// do, such as leading out of the directory; TooLarge when it is beyond the limit; and wraps ENOSPC when dir is full. On error what has
// been unpacked stays: throw it away.
func Tar(ctx context.Context, dir *os.File, r io.Reader, o Options) (Report, error) {
	u := &unpacker{ctx: ctx, limit: o.Limit, tree: newTree(dir), dirs: map[string]tar.Header{}}
	defer u.tree.close()
	archive := NewReader(ctx, r, o)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return u.report, err
		}
		if err := u.entry(h, archive.tar); err != nil {
			return u.report, err
		}
	}
	return u.report, u.finishDirs()
}

// unpacker is the state of one archive.
type unpacker struct {
	ctx    context.Context //nolint:containedctx // it is one operation
	limit  int64
	tree   *tree
	report Report
	buf    []byte
	dirs   map[string]tar.Header // whose times are set at the end: every file made in them changes them
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if err := u.ctx.Err(); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	u.report.Entries++
	if err := u.make(h, content); err != nil {
		return entryError(h, err)
	}
	return nil
}

func (u *unpacker) make(h *tar.Header, content io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if err := checkOwner(h); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.directory(name, h)
	}
	if name == "." {
		return damaged("it has no name")
	}
	at, err := u.tree.parent(name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(at, h, content)
	case tar.TypeLink:
		return u.hardLink(at, name, h)
	case tar.TypeSymlink:
		return u.symlink(at, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return u.node(at, h)
	}
	return damaged("it is of type %q, which is not known", h.Typeflag)
}

// damaged is an error of kind Corrupt; entryError puts the entry before it.
func damaged(format string, args ...any) error { return fault.New(fault.Corrupt, format, args...) }

func entryError(h *tar.Header, err error) error {
	kind := fault.KindOf(err)
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EDQUOT):
		kind = fault.TooLarge
	case errors.Is(err, unix.ENAMETOOLONG):
		kind = fault.Corrupt
	}
	return fault.New(kind, "unpack entry %q: %w", clip(h.Name), err)
}

// readError is for what the reader of the archive says. What came from further down, where the bytes come from, has a kind already.
func readError(err error, where string) error {
	var kinded *fault.Error
	switch {
	case errors.As(err, &kinded):
		return fault.New(kinded.Kind, "read the archive %s: %w", where, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("unpack: %w", err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fault.New(fault.Corrupt, "the archive is cut off %s", where)
	}
	return fault.New(fault.Corrupt, "the archive is damaged %s: %w", where, err)
}

// clip keeps hostile names out of messages that people must read.
func clip(name string) string {
	if len(name) > 200 {
		return name[:200] + "…"
	}
	return name
}
