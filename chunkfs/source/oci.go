package source

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/unpack"
)

// image is an image of layers. It is read in two passes: the first finds out which entry of which layer is what there is in the end, the
// second gives those. So the content of no layer is ever held in memory.
type image struct {
	name   string
	blobs  blobs
	layers []layer
	o      Options
	total  int64
	done   atomic.Int64
}

// newImage takes the blobs over, also when it fails.
func newImage(name string, b blobs, o Options) (Source, error) {
	im := &image{name: name, blobs: b, o: o}
	err := im.choose()
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("read the image layout %s: %w", name, err)
	}
	return im, nil
}

func (im *image) choose() error {
	c, err := newChooser(im.blobs, im.o)
	if err != nil {
		return err
	}
	docker := !im.blobs.has(indexFile)
	if im.o.Kind == KindDocker {
		docker = true
	}
	if docker {
		im.layers, err = c.chooseDocker()
	} else {
		im.layers, err = c.choose()
	}
	if err != nil {
		return err
	}
	for _, l := range im.layers {
		r, size, err := im.blobs.open(l.path)
		if err != nil {
			return fault.Hintf(fmt.Errorf("layer %s: %w", clip(l.path), err), "copy the image with all of its layers, and not those for another platform alone")
		}
		r.Close()
		if l.size >= 0 && size != l.size {
			return damaged("layer %s has %d bytes; its manifest says %d", clip(l.path), size, l.size)
		}
		im.total += 2 * size
	}
	return nil
}

func (im *image) Random() bool { return false }
func (im *image) Total() int64 { return im.total }
func (im *image) Done() int64  { return im.done.Load() }
func (im *image) Close() error { return im.blobs.Close() }

func (im *image) Walk(ctx context.Context, visit func(Item) error) error {
	im.done.Store(0)
	m := newMerge()
	for i := range im.layers {
		m.tree.layer = i
		if err := im.read(ctx, i, true, func(n int, h *tar.Header, _ *entries) error { return m.entry(h, n) }); err != nil {
			return err
		}
	}
	left := m.winners(len(im.layers))
	m = nil //nolint:ineffassign,wastedassign // its memory is wanted for the second pass
	v := visitor{visit: visit}
	for i, w := range left {
		err := im.second(ctx, i, w, &v)
		if v.err != nil {
			return v.err
		}
		if err != nil {
			return err
		}
		left[i] = nil
	}
	return nil
}

// second visits what is left of a layer.
func (im *image) second(ctx context.Context, i int, w winners, v *visitor) error {
	if len(w) == 0 {
		return nil
	}
	return im.read(ctx, i, false, func(n int, h *tar.Header, in *entries) error {
		paths := w[n]
		if len(paths) == 0 {
			return nil
		}
		kind, err := kindOf(h)
		if err != nil {
			return err
		}
		node, err := headerNode(h, kind, paths[0], im.o.Skipped)
		if err != nil {
			return err
		}
		for k, path := range paths {
			item := Item{Path: path, Node: node}
			if k == 0 && node.Size > 0 {
				item.Open = in.content
			}
			if err := v.do(item); err != nil {
				return err
			}
		}
		return nil
	})
}

// read reads a layer to its end and holds it against its digests. That of its content is looked at if full is set: the digest of the file
// says the same the second time.
func (im *image) read(ctx context.Context, i int, full bool, each func(n int, h *tar.Header, in *entries) error) error {
	l := im.layers[i]
	if err := im.readLayer(ctx, l, full, each); err != nil {
		return fmt.Errorf("read layer %d of %d (%s) of %s: %w", i+1, len(im.layers), clip(l.path), im.name, err)
	}
	return nil
}

func (im *image) readLayer(ctx context.Context, l layer, full bool, each func(n int, h *tar.Header, in *entries) error) error {
	file, _, err := im.blobs.open(l.path)
	if err != nil {
		return err
	}
	defer file.Close()
	whole, err := newSummed(&counted{file, &im.done}, l.digest)
	if err != nil {
		return err
	}
	raw, err := decompress(whole)
	if err != nil {
		return err
	}
	defer raw.Close()
	var diff v1.Hash
	if full || l.digest.Hex == "" {
		diff = l.diffID
	}
	plain, err := newSummed(raw, diff)
	if err != nil {
		return err
	}
	in := newEntries(ctx, plain, unpack.Options{Unmarked: true}) // the digest says that it is whole
	for n := 0; ; n++ {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := each(n, h, in); err != nil {
			return unpack.EntryError(h, err)
		}
	}
	return errors.Join(plain.check("its content"), whole.check("it"))
}

// summed hashes what is read, if there is a digest to hold it against.
type summed struct {
	r    io.Reader
	want v1.Hash
	h    hash.Hash
}

func newSummed(r io.Reader, want v1.Hash) (*summed, error) {
	s := &summed{r: r, want: want}
	if want.Hex == "" {
		return s, nil
	}
	var err error
	if s.h, err = v1.Hasher(want.Algorithm); err != nil {
		return nil, fault.New(fault.Unsupported, "its digest %s: %w", want, err)
	}
	return s, nil
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.h != nil {
		s.h.Write(p[:n])
	}
	return n, err
}

// check reads what is left and compares.
func (s *summed) check(what string) error {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return err
	}
	if s.h == nil {
		return nil
	}
	if got := fmt.Sprintf("%x", s.h.Sum(nil)); got != s.want.Hex {
		return damaged("%s is not what the image says: its digest is %s:%s, not %s", what, s.want.Algorithm, got, s.want)
	}
	return nil
}
