package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// imageCheck is an image whose manifest and index are whole. The index is read again when it is needed: a store may have many images.
type imageCheck struct {
	names    []string
	image    format.Digest
	manifest *format.Manifest
	metadata bool // is whole
}

// image checks what an image is made of, packs aside; nil when its packs cannot be known, or when the image had another name before.
func (c *check) image(ctx context.Context, t target) (*imageCheck, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ok, err := c.blob(ctx, t, ManifestDamage, t.image, format.MaxManifest, func() error {
		_, err := c.store.Manifest(t.image)
		return err
	})
	if !ok || err != nil {
		return nil, err
	}
	m, err := c.store.Manifest(t.image)
	if err != nil {
		return nil, err
	}
	if before := c.images[t.image]; before != nil {
		before.names = append(before.names, t.name)
	}
	i := &imageCheck{names: []string{t.name}, image: t.image, manifest: m}
	i.metadata, err = c.blob(ctx, t, MetadataDamage, m.Metadata.Digest, m.Metadata.Size, func() error { return c.metadata(m) })
	if err != nil {
		return nil, err
	}
	ok, err = c.blob(ctx, t, IndexDamage, m.Index.Digest, m.Index.Size, func() error {
		_, err := c.store.Index(m)
		return err
	})
	if !ok || err != nil || c.images[t.image] != nil {
		return nil, err
	}
	c.images[t.image] = i
	return i, c.traces(ctx, t, i)
}

func (c *check) metadata(m *format.Manifest) error {
	b, err := c.store.Metadata(m)
	if err != nil {
		return err
	}
	img, err := erofs.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return fmt.Errorf("metadata %s: %w", m.Metadata.Digest, err)
	}
	if img.DeviceSize() != m.Device {
		return fault.New(fault.Corrupt, "metadata %s: it is of a device of %d bytes, the manifest says %d", m.Metadata.Digest, img.DeviceSize(), m.Device)
	}
	return nil
}

// blob checks one blob that is read as a whole, and mends it. It says whether it is whole in the end.
func (c *check) blob(ctx context.Context, t target, what string, d format.Digest, size int64, whole func() error) (bool, error) {
	if damage, seen := c.blobs[d]; seen {
		if damage != nil && !slices.Contains(damage.Images, t.name) {
			damage.Images = append(damage.Images, t.name)
		}
		return damage == nil || damage.Mended, nil
	}
	c.report.Blobs++
	err := whole()
	if err == nil {
		c.blobs[d] = nil
		return true, nil
	}
	if !unreadable(err) && !errors.Is(err, unix.EIO) {
		return false, err
	}
	damage := &Damage{What: what, Images: []string{t.name}, Path: format.BlobPath(d), Error: err.Error(), digest: d}
	c.blobs[d] = damage
	if err := c.mend(ctx, damage, size); err != nil {
		return false, err
	}
	if damage.Mended {
		if err := whole(); err != nil { // it has its digest and is wrong all the same
			damage.Mended, damage.Error = false, err.Error()
		}
	}
	return damage.Mended, nil
}

// mend fetches a blob from the peer and puts it in place of what is there. Damage says how it went; an error is one of this store.
func (c *check) mend(ctx context.Context, d *Damage, size int64) error {
	if c.o.Peer == nil {
		return nil
	}
	b, err := c.o.Peer.Blob(ctx, d.digest, size)
	if err == nil && d.digest.Algorithm.Of(b) != d.digest {
		err = fault.New(fault.Corrupt, "what came has another digest")
	}
	if err != nil {
		d.Error += "; not mended: " + err.Error()
		return ctx.Err()
	}
	if _, err := c.txn.Put(ctx, b, d.digest.Algorithm); err != nil {
		return err
	}
	d.Mended = true
	return nil
}

// traces checks the traces of an image. They are hints, under no digest: that they speak of this image is all that can be seen.
func (c *check) traces(ctx context.Context, t target, i *imageCheck) error {
	entries, err := os.ReadDir(c.store.path(traceDir(i.image)))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.trace(ctx, t, i, e); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) trace(ctx context.Context, t target, i *imageCheck, e fs.DirEntry) error {
	role := e.Name()
	err := c.traceError(i, role)
	if err == nil || fault.Is(err, fault.NotFound) {
		return nil
	}
	d := Damage{What: TraceDamage, Images: []string{t.name}, Path: traceDir(i.image) + "/" + role, Error: err.Error()}
	defer func() { c.add(d) }()
	if c.o.Peer == nil || format.CheckRole(role) != nil {
		return nil
	}
	if b, err := c.o.Peer.Trace(ctx, i.image, role); err == nil {
		if other, err := format.DecodeTrace(b); err == nil && other.Image == i.image && other.Role == role {
			d.Mended = true
			return c.store.PutTrace(ctx, other)
		}
	}
	d.Mended = true
	d.Error += "; removed: the peer has none"
	return c.store.RemoveTrace(ctx, i.image, role)
}

func (c *check) traceError(i *imageCheck, role string) error {
	t, err := c.store.Trace(i.image, role)
	if err != nil {
		return err
	}
	again, err := format.EncodeTrace(t)
	if err != nil {
		return err
	}
	b, err := readSmall(c.store.path(traceDir(i.image)+"/"+role), format.MaxTrace+1)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, again) {
		return fault.New(fault.Corrupt, "the trace is not as it was written")
	}
	return c.traceContent(i, t)
}

// traceContent checks that what a trace names is in the image.
func (c *check) traceContent(i *imageCheck, t *format.Trace) error {
	x, err := c.store.Index(i.manifest)
	if err != nil {
		return err
	}
	has := make(map[format.Sum]bool, len(x.Chunks))
	for _, chunk := range x.Chunks {
		has[chunk.Sum] = true
	}
	for _, sum := range t.Chunks {
		if !has[sum] {
			return fault.New(fault.Corrupt, "the trace names the chunk %s, which is not in the image", sum)
		}
	}
	if !i.metadata {
		return nil
	}
	img, err := c.store.tree(i.manifest)
	if err != nil {
		return err
	}
	for _, quoted := range t.Paths {
		p, err := format.UnquotePath(quoted)
		if err == nil {
			err = lookup(img, p)
		}
		if err != nil {
			return fault.New(fault.Corrupt, "the trace names %.200q: %w", quoted, err)
		}
	}
	return nil
}

// tree opens the metadata of an image.
func (s *Store) tree(m *format.Manifest) (*erofs.Image, error) {
	b, err := s.Metadata(m)
	if err != nil {
		return nil, err
	}
	return erofs.Open(bytes.NewReader(b), int64(len(b)))
}

func lookup(img *erofs.Image, p string) error {
	nid := img.Root()
	for part := range strings.SplitSeq(p, "/") {
		next, err := img.Lookup(nid, part)
		if err != nil {
			return err
		}
		nid = next
	}
	return nil
}
