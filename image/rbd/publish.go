//go:build ceph

package rbd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/undo"
)

// PublishOptions say how an image is published.
type PublishOptions struct {
	Features   []string // none is layering, which every kernel can map
	ObjectSize uint64   // bytes, a power of two from 4 KiB to 32 MiB; 0 is 4 MiB
	DataPool   string   // pool for the content, such as an erasure coded one; "" is the image's own
	Replace    bool     // rename an image that has the name already
	Force      bool     // also when somebody has that open to write
	NoVerify   bool     // do not read back what was written
	Jobs       int      // requests at the same time; 0 is 8
	Publisher  string   // who publishes, to be kept with the image
	// Progress is called now and then, by one goroutine at a time; nil is nobody.
	Progress func(Progress)
	// Note is told what a person wants to know, such as what an earlier attempt left and is removed; nil is nobody.
	Note func(text string)
}

// Progress is how far a publishing is.
type Progress struct {
	Stage       string // "writing", "verifying"
	Done, Total int64  // bytes of the file
	Written     int64  // bytes of it that are no zeros
}

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
	w := &writer{pool: p, src: src, o: o, part: to.Image + partMark + random()}
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

func (o *PublishOptions) defaults() {
	if o.Jobs <= 0 {
		o.Jobs = 8
	}
	if o.ObjectSize == 0 {
		o.ObjectSize = 4 << 20
	}
	if len(o.Features) == 0 {
		o.Features = []string{rbd.FeatureNameLayering}
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
}

// layout makes librbd's options of ours. The caller destroys them.
func (o *PublishOptions) layout() (*rbd.ImageOptions, error) {
	order := 0
	for 1<<order < o.ObjectSize {
		order++
	}
	if 1<<order != o.ObjectSize || order < 12 || order > 25 {
		return nil, fault.New(fault.Invalid, "objects of %d bytes: it must be a power of two from 4 KiB to 32 MiB", o.ObjectSize)
	}
	known := []string{rbd.FeatureNameLayering, rbd.FeatureNameExclusiveLock, rbd.FeatureNameObjectMap, rbd.FeatureNameFastDiff, rbd.FeatureNameDeepFlatten}
	for _, f := range o.Features {
		if !contains(known, f) {
			return nil, fault.New(fault.Invalid, "feature %q is none of %s", f, strings.Join(known, ", "))
		}
	}
	layout := rbd.NewRbdImageOptions()
	set := []error{layout.SetUint64(rbd.ImageOptionOrder, uint64(order)), layout.SetUint64(rbd.ImageOptionFeatures, uint64(rbd.FeatureSetFromNames(o.Features)))}
	if o.DataPool != "" {
		set = append(set, layout.SetString(rbd.ImageOptionDataPool, o.DataPool))
	}
	if err := errors.Join(set...); err != nil {
		layout.Destroy()
		return nil, failed(err, "lay out the image")
	}
	return layout, nil
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

// mayTake says whether an image may get the name.
func (p *pool) mayTake(image string, o PublishOptions) error {
	name := p.name.named(image)
	there, err := p.exists(image)
	if err != nil || !there {
		return err
	}
	if !o.Replace {
		err := fault.New(fault.Exists, "publish %v: there is such an image", name)
		return fault.Hintf(err, "take another name, or --replace: the image that is there is renamed, and who has mapped it reads on")
	}
	addrs, err := p.openBy(image)
	if err != nil {
		return err
	}
	if len(addrs) > 0 && !o.Force {
		err := fault.New(fault.Busy, "replace %v: it is open to write, by %s", name, strings.Join(addrs, ", "))
		return fault.Hintf(err, "detach it there first; with --force it is renamed all the same, and they go on writing to the renamed one")
	}
	return nil
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

// swap gives the whole image its name. One that has it is renamed; what it is called then is answered.
func (p *pool) swap(part, image string, o PublishOptions) (old string, err error) {
	if err := p.mayTake(image, o); err != nil { // somebody may have come meanwhile
		return "", err
	}
	there, err := p.exists(image)
	if err != nil {
		return "", err
	}
	if there {
		old = oldName(image, time.Now())
		if err := p.rename(image, old); err != nil {
			return "", err
		}
	}
	if err := p.rename(part, image); err != nil {
		if there {
			err = errors.Join(err, p.rename(old, image))
		}
		return "", err
	}
	if there {
		return p.name.named(old).String(), nil
	}
	return "", nil
}

func random() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}

// clearUp removes what attempts to publish or to remove an image have left. Those that go on are left alone.
func (p *pool) clearUp(ctx context.Context, image string, note func(string)) error {
	names, err := p.images()
	if err != nil {
		return err
	}
	for _, n := range names {
		of, mark := marked(n)
		if of != image || mark != partMark && mark != goneMark {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := p.name.named(n)
		addrs, err := p.openBy(n)
		if err != nil {
			return err
		}
		if len(addrs) > 0 {
			note(fmt.Sprintf("%v is being written by %s, or was until less than a minute ago; it is left alone", name, strings.Join(addrs, ", ")))
			continue
		}
		note(fmt.Sprintf("removing %v, which an earlier attempt has left", name))
		if err := p.discard(n); err != nil {
			return err
		}
	}
	return nil
}
