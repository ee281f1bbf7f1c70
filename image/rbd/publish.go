//go:build ceph

package rbd

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/undo"
)

// Result is a published image.
type Result struct {
	Name     Name    `json:"name"`
	Size     uint64  `json:"size"`    // of the image
	Length   int64   `json:"length"`  // of the file
	Written  int64   `json:"written"` // bytes that are no zeros
	Digest   string  `json:"digest"`  // of the file
	Holds    string  `json:"holds,omitempty"`
	Verified bool    `json:"verified"`
	Replaced string  `json:"replaced,omitempty"` // what the image that had the name is called now
	Seconds  float64 `json:"seconds"`
}

// Publish makes an image of a file, with a protected snapshot where to names one. The image gets its name once it is whole; when anything
// fails before, or ctx ends, it is removed again. An image of the name is in the way unless o.Replace is set.
func (c *Cluster) Publish(ctx context.Context, file string, to Name, o PublishOptions) (_ *Result, err error) {
	began := time.Now()
	o.defaults()
	if of, mark := marked(to.Image); mark != "" {
		return nil, fault.New(fault.Invalid, "publish %v: such names are given to images of %s that are not in use; take another", to, of)
	}
	layout, err := o.layout()
	if err != nil {
		return nil, err
	}
	defer layout.Destroy()
	src, err := openSource(file)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	p, err := c.open(to)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.mayTake(to.Image, o); err != nil {
		return nil, err
	}
	if err := p.clearUp(ctx, to.Image, o.Note); err != nil {
		return nil, err
	}
	w := &writer{pool: p, src: src, o: o, part: partName(to.Image, time.Now())}
	var u undo.Stack
	defer func() { err = u.Unwind(ctx, err) }()
	if err := w.create(layout, &u); err != nil {
		return nil, err
	}
	if err := w.fill(ctx, to.Snapshot); err != nil {
		return nil, err
	}
	// It stays open till then: nobody clears up what somebody has open.
	old, err := p.swap(w.part, to.Image, o)
	if err != nil {
		return nil, err
	}
	if err := w.close(); err != nil {
		o.Note(err.Error())
	}
	return &Result{Name: to, Size: src.size(), Length: src.length, Written: w.written, Digest: src.digest(), Holds: src.holds, Verified: !o.NoVerify,
		Replaced: old, Seconds: time.Since(began).Seconds()}, nil
}

// create makes the image that is written, and opens it.
func (w *writer) create(layout *rbd.ImageOptions, u *undo.Stack) error {
	name := w.pool.name.named(w.part)
	if err := rbd.CreateImage(w.pool.io, w.part, w.src.size(), layout); err != nil {
		err = failed(err, "make image %v", name)
		if w.o.DataPool != "" && fault.Is(err, fault.NotFound) {
			err = fault.Hintf(err, "see that there is a data pool %s", w.o.DataPool)
		}
		return err
	}
	u.Push("remove "+name.String(), func(context.Context) error { return w.pool.discard(w.part) })
	img, err := rbd.OpenImage(w.pool.io, w.part, rbd.NoSnapshot)
	if errors.Is(err, rbd.ErrNotFound) {
		err := fault.New(fault.Busy, "open %v: it has gone already: somebody else clears up after attempts to publish the same image", name)
		return fault.Hintf(err, "see that the clocks of all who publish agree, then try again")
	}
	if err != nil {
		return failed(err, "open %v", name)
	}
	w.img = img
	u.Push("close "+name.String(), func(context.Context) error { return w.close() })
	return w.keep([2]string{keyPublisher, w.o.Publisher}, [2]string{keySource, filepath.Base(w.src.file.Name())})
}

// fill makes the image whole: content, what is kept with it, snapshot.
func (w *writer) fill(ctx context.Context, snapshot string) error {
	if err := w.write(ctx); err != nil {
		return err
	}
	if err := w.src.unchanged(); err != nil {
		return err
	}
	if !w.o.NoVerify {
		if err := w.verify(ctx); err != nil {
			return err
		}
	}
	err := w.keep([2]string{keyLength, strconv.FormatInt(w.src.length, 10)}, [2]string{keyHolds, w.src.holds},
		[2]string{keyPublished, time.Now().UTC().Format(time.RFC3339)}, [2]string{keyDigest, w.src.digest()})
	if err != nil {
		return err
	}
	if snapshot != "" {
		if err := w.snapshot(snapshot); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (w *writer) keep(pairs ...[2]string) error {
	for _, kv := range pairs {
		if kv[1] == "" {
			continue
		}
		if err := w.img.SetMetadata(kv[0], kv[1]); err != nil {
			return failed(err, "keep %s with %v", kv[0], w.pool.name.named(w.part))
		}
	}
	return nil
}

func (w *writer) snapshot(name string) error {
	s, err := w.img.CreateSnapshot(name)
	if err != nil {
		return failed(err, "make snapshot %s of %v", name, w.pool.name.named(w.part))
	}
	return failed(s.Protect(), "protect snapshot %s of %v", name, w.pool.name.named(w.part))
}
