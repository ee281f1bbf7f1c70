package source

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/unpack"
)

// archive is a tar that is read once.
type archive struct {
	name   string
	r      io.Reader
	size   int64
	done   atomic.Int64
	o      Options
	walked bool
}

// Tar reads a tar archive, plain or compressed by gzip, zstd or xz, from r, which Close closes if it is an io.Closer. name is for
// messages, size that of what r gives, 0 when not known. What leads out of the archive, or behind one of its symbolic links, is Corrupt,
// as is one that is cut off.
func Tar(name string, r io.Reader, size int64, o Options) (Source, error) {
	return &archive{name: name, r: r, size: size, o: o}, nil
}

func (a *archive) Random() bool { return false }
func (a *archive) Total() int64 { return a.size }
func (a *archive) Done() int64  { return a.done.Load() }

func (a *archive) Close() error {
	if c, ok := a.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (a *archive) Walk(ctx context.Context, visit func(Item) error) error {
	if a.walked {
		return fault.New(fault.BadState, "read the archive %s: it is read once only", a.name)
	}
	a.walked = true
	plain, err := decompress(&counted{a.r, &a.done})
	if err != nil {
		return fmt.Errorf("read the archive %s: %w", a.name, err)
	}
	defer plain.Close()
	in := bufio.NewReaderSize(plain, sniffSize)
	if head, _ := in.Peek(sniffSize); len(head) > 0 && !isTar(head) { // what the error is comes up again below
		return notTar(a.name)
	}
	w := tarWalk{tree: newTree(), in: newEntries(ctx, in, unpack.Options{}), o: a.o, visitor: visitor{visit: visit}}
	err = w.all()
	if w.err != nil {
		return w.err
	}
	if err != nil {
		return fmt.Errorf("read the archive %s: %w", a.name, err)
	}
	return nil
}

func notTar(name string) error {
	return fault.Hintf(fault.New(fault.Unsupported, "read the archive %s: it is not a tar, and none compressed by gzip, zstd or xz", name),
		"a squashfs or an image layout is read from its file, not from standard input")
}

// counted counts what is read.
type counted struct {
	r io.Reader
	n *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// decompress finds out how a tar is compressed by its first bytes.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 128<<10)
	head, err := b.Peek(sniffSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read its beginning: %w", err)
	}
	return unpack.Decompress(codecOf(head), b)
}

// tarWalk is one call of Walk.
type tarWalk struct {
	tree *tree
	in   *entries
	o    Options
	visitor
	waiting []hardLink
}

// hardLink is one to what has not come yet.
type hardLink struct {
	path   string
	inode  *inode // that stands there for now
	header tar.Header
}

func (w *tarWalk) all() error {
	for {
		h, err := w.in.Next()
		if errors.Is(err, io.EOF) {
			return w.finish()
		}
		if err != nil {
			return err
		}
		item, err := w.entry(h)
		if err != nil {
			return unpack.EntryError(h, err)
		}
		if item.Node == nil {
			continue
		}
		if err := w.do(item); err != nil {
			return err
		}
	}
}

// entry gives the item of an entry; one without a Node when there is none yet.
func (w *tarWalk) entry(h *tar.Header) (Item, error) {
	path, err := entryPath(h)
	if err != nil {
		return Item{}, err
	}
	kind, err := kindOf(h)
	if err != nil {
		return Item{}, err
	}
	if err := w.tree.charge(weight(h)); err != nil {
		return Item{}, err
	}
	if path == "." {
		node, err := headerNode(h, kind, path, w.o.Skipped)
		return Item{Path: path, Node: node}, err
	}
	at, err := w.tree.spot(path, true)
	if err != nil {
		return Item{}, err
	}
	if kind == 0 {
		return w.link(h, at)
	}
	node, err := headerNode(h, kind, path, w.o.Skipped)
	if err != nil {
		return Item{}, err
	}
	w.tree.put(at, &inode{node: node, kind: kind, target: node.Target})
	item := Item{Path: path, Node: node}
	if node.Size > 0 {
		item.Open = w.in.content
	}
	return item, nil
}

func (w *tarWalk) link(h *tar.Header, at spot) (Item, error) {
	in, err := w.tree.linked(h.Linkname, at)
	if err != nil {
		return Item{}, fmt.Errorf("hard link to %q: %w", clip(h.Linkname), err)
	}
	if in == nil || in.kind == 0 {
		in = &inode{}
		w.waiting = append(w.waiting, hardLink{at.String(), in, tar.Header{Name: h.Name, Linkname: h.Linkname}})
	}
	if old := at.get(); old != nil && old.inode == in { // tar writes this when it was given a file twice
		return Item{}, nil
	}
	w.tree.put(at, in)
	return Item{Path: at.String(), Node: in.node}, nil
}

// linked gives what a hard link at a spot means: nil, when it is not there or nowhere but at that spot.
func (t *tree) linked(name string, at spot) (*inode, error) {
	clean, err := unpack.CleanName(name)
	if err != nil {
		return nil, err
	}
	if clean == "." {
		return nil, damaged("it is a directory")
	}
	to, err := t.spot(clean, false)
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch p := to.get(); {
	case p == nil:
		return nil, nil
	case p.entries != nil:
		return nil, damaged("it is a directory")
	default:
		return p.inode, nil
	}
}

// finish visits the links to what came after them. One may wait for another.
func (w *tarWalk) finish() error {
	for left := w.waiting; len(left) > 0; {
		var again []hardLink
		for _, l := range left {
			done, err := w.late(l)
			if err != nil {
				return err
			}
			if !done {
				again = append(again, l)
			}
		}
		if len(again) == len(left) {
			h := again[0].header
			return unpack.EntryError(&h, damaged("it is a hard link to %q, which is not in the archive", clip(h.Linkname)))
		}
		left = again
	}
	return nil
}

// late visits a link if what it is to has come.
func (w *tarWalk) late(l hardLink) (done bool, err error) {
	at, err := w.tree.spot(l.path, false)
	if err != nil {
		return true, nil //nolint:nilerr // the directory it was in has been replaced
	}
	if p := at.get(); p == nil || p.inode != l.inode {
		return true, nil
	}
	in, err := w.tree.linked(l.header.Linkname, at)
	if err != nil {
		return false, unpack.EntryError(&l.header, err)
	}
	if in == nil || in.kind == 0 {
		return false, nil
	}
	w.tree.put(at, in)
	return true, w.do(Item{Path: l.path, Node: in.node})
}
