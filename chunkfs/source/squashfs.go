package source

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/squashfs"
)

// packed is a squashfs image.
type packed struct {
	f    *os.File
	x    *squashfs.Reader
	size int64
	done atomic.Int64
	o    Options
}

// Squashfs reads a squashfs 4.0 image, however it is compressed but by lzma. Close closes f.
func Squashfs(f *os.File, o Options) (Source, error) {
	p := &packed{f: f, o: o}
	if err := p.open(); err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return p, nil
}

func (p *packed) open() (err error) {
	st, err := p.f.Stat()
	if err != nil {
		return err
	}
	p.size = st.Size()
	if st.Mode()&os.ModeDevice != 0 {
		if p.size, err = p.f.Seek(0, io.SeekEnd); err != nil {
			return err
		}
	}
	p.x, err = squashfs.Open(countedAt{p.f, &p.done}, p.size)
	return err
}

// countedAt counts what is read.
type countedAt struct {
	r io.ReaderAt
	n *atomic.Int64
}

func (c countedAt) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(b, off)
	c.n.Add(int64(n))
	return n, err
}

func (p *packed) Random() bool { return true }
func (p *packed) Total() int64 { return p.size }
func (p *packed) Done() int64  { return min(p.done.Load(), p.size) } // what is cached may be read twice
func (p *packed) Close() error { return p.f.Close() }

func (p *packed) Walk(ctx context.Context, visit func(Item) error) error {
	w := packedWalk{p: p, ctx: ctx, visitor: visitor{visit: visit}, seen: map[squashfs.Ref]*erofs.Node{}, dirs: map[squashfs.Ref]bool{}}
	root, err := p.x.Root()
	if err == nil && root.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = damaged("its root is no directory")
	}
	if err == nil {
		err = w.one(".", root)
	}
	if w.err != nil {
		return w.err
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", p.f.Name(), err)
	}
	return nil
}

// packedWalk is one call of Walk.
type packedWalk struct {
	p   *packed
	ctx context.Context //nolint:containedctx // it is one operation
	visitor
	seen  map[squashfs.Ref]*erofs.Node // all but directories: another name is a hard link
	dirs  map[squashfs.Ref]bool        // a directory has one name, or there would be no end
	count int
}

func (w *packedWalk) one(path string, in *squashfs.Inode) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if len(path) >= maxPath {
		return damaged("the path %q has %d bytes; %d are possible", clip(path), len(path), maxPath-1)
	}
	item, err := w.item(path, in)
	if err != nil {
		return fmt.Errorf("%q: %w", clip(path), err)
	}
	if err := w.do(item); err != nil {
		return err
	}
	if in.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	return w.below(path, in)
}

func (w *packedWalk) item(path string, in *squashfs.Inode) (Item, error) {
	node := &erofs.Node{
		Mode: in.Mode, UID: in.UID, GID: in.GID, ModTime: in.ModTime, Rdev: in.Rdev, Size: in.Size, Target: in.Target,
	}
	list, err := w.p.x.Xattrs(in)
	if err != nil {
		return Item{}, err
	}
	attrs := attributes{path: path, skip: w.p.o.Skipped}
	for _, a := range list {
		attrs.add(a.Name, a.Value)
	}
	node.Xattrs = attrs.sorted()
	item := Item{Path: path, Node: node}
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if w.dirs[in.Ref] {
			return Item{}, damaged("it is a directory that has another name already")
		}
		w.dirs[in.Ref] = true
		return item, nil
	case unix.S_IFREG:
		if in.Size > 0 {
			item.Open = func() (Content, error) { return w.p.content(path, in) }
		}
	}
	w.seen[in.Ref] = node
	return item, nil
}

// name is one in a directory.
type name struct {
	name string
	ref  squashfs.Ref
}

// below visits what is in a directory. Its names are read first, so that no more than those of the directories above are held.
func (w *packedWalk) below(path string, dir *squashfs.Inode) error {
	var names []name
	err := w.p.x.ReadDir(dir, func(s string, ref squashfs.Ref) error {
		if len(names) > 0 && names[len(names)-1].name >= s {
			return damaged("its names are out of order: %q comes before %q", names[len(names)-1].name, s)
		}
		if w.count++; w.count > maxEntries {
			return fault.New(fault.TooLarge, "there are more than %d entries", maxEntries)
		}
		names = append(names, name{s, ref})
		return nil
	})
	if err != nil {
		return fmt.Errorf("%q: %w", clip(path), err)
	}
	for _, n := range names {
		if err := w.entry(join(path, n.name), n.ref); err != nil {
			return err
		}
	}
	return nil
}

func (w *packedWalk) entry(path string, ref squashfs.Ref) error {
	if node := w.seen[ref]; node != nil {
		return w.do(Item{Path: path, Node: node})
	}
	in, err := w.p.x.Inode(ref)
	if err != nil {
		return fmt.Errorf("%q: %w", clip(path), err)
	}
	return w.one(path, in)
}

// packedContent is the content of a file of a squashfs.
type packedContent struct {
	*squashfs.File
	path string
}

func (p *packed) content(path string, in *squashfs.Inode) (Content, error) {
	f, err := p.x.Open(in)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", clip(path), err)
	}
	return packedContent{f, path}, nil
}

func (c packedContent) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	return n, c.named(err)
}

func (c packedContent) NextData(off int64) (start, end int64, err error) {
	start, end, err = c.File.NextData(off)
	return start, end, c.named(err)
}

// named names the file in an error.
func (c packedContent) named(err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // as a reader gives it
		return err
	}
	return fmt.Errorf("%q: %w", clip(c.path), err)
}

func (packedContent) Close() error { return nil }
