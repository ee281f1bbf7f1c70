// Package image is what an administrator does with images: list, look, check, compare, unpack, export. It works on stores, in a
// directory or behind a web server, and runs without the daemon.
//
// It owns no format and no store. What it reads of an image is hostile: no name of an image leads out of where it is unpacked to.
package image

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/chunkfs/store"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// patience is how long one request may take, tries at a server that is down included: here a person waits, not a node.
const patience = time.Minute

// Origin is where images are read from. It is safe for many goroutines.
type Origin struct {
	from     origin.Fetcher
	name     string // as the caller gave it, without secrets
	dir      string // of a store in a directory
	decoders format.Decoders
}

// OpenOrigin opens a store for reading: a directory, or an http, https or file URL. A directory must hold a store; a server is asked
// when something is wanted.
func OpenOrigin(at string) (*Origin, error) {
	o := &Origin{name: at}
	if strings.Contains(at, "://") {
		o.name = origin.Display(at)
	} else {
		s, err := store.Open(at)
		if err != nil {
			return nil, err
		}
		o.dir, at = s.Dir(), s.Dir()
	}
	set, err := origin.New([]origin.Config{{URL: at}}, origin.Options{})
	if err != nil {
		return nil, err
	}
	o.from = set
	return o, nil
}

// openPeer is OpenOrigin for mending: the other store need not be whole.
func openPeer(at string) (*Origin, error) {
	if !strings.Contains(at, "://") {
		abs, err := filepath.Abs(at)
		if err != nil {
			return nil, err
		}
		if _, err := store.OpenDamaged(abs); err != nil {
			return nil, err
		}
		at = abs
	}
	set, err := origin.New([]origin.Config{{URL: at}}, origin.Options{})
	if err != nil {
		return nil, err
	}
	return &Origin{from: set, name: origin.Display(at)}, nil
}

// Close ends what is under way.
func (o *Origin) Close() error { return o.from.Close() }

// Name is where the origin is, without secrets.
func (o *Origin) Name() string { return o.name }

// Tag asks what a tag names. Like all of Origin it gives up after a while where the server does not answer.
func (o *Origin) Tag(ctx context.Context, name string) (format.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return o.from.Tag(ctx, name)
}

// Blob gives a whole blob of at most limit bytes, verified.
func (o *Origin) Blob(ctx context.Context, d format.Digest, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience+time.Duration(limit>>20)*time.Second)
	defer cancel()
	return o.from.Blob(ctx, d, limit)
}

// Trace gives the trace of an image for a role, as it is stored.
func (o *Origin) Trace(ctx context.Context, image format.Digest, role string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return o.from.Trace(ctx, image, role)
}

// Image is an image that was found. It is safe for many goroutines.
type Image struct {
	Digest   format.Digest
	Ref      string // by which it was asked for
	Manifest *format.Manifest
	Index    *format.Index

	origin *Origin
	once   sync.Once
	root   *erofs.Node
	err    error
}

// Image finds the image of a tag or a digest and fetches its manifest and index.
func (o *Origin) Image(ctx context.Context, ref string) (*Image, error) {
	d, err := format.ParseDigest(ref)
	if err != nil {
		if d, err = o.Tag(ctx, ref); err != nil {
			return nil, err
		}
	}
	b, err := o.Blob(ctx, d, format.MaxManifest)
	if err != nil {
		return nil, fmt.Errorf("fetch the manifest of %s: %w", ref, err)
	}
	i := &Image{Digest: d, Ref: ref, origin: o}
	if i.Manifest, err = format.DecodeManifest(b); err != nil {
		return nil, fmt.Errorf("image %s: %w", ref, err)
	}
	plain, err := o.plain(ctx, i.Manifest.Index)
	if err == nil {
		i.Index, err = format.DecodeIndex(plain)
	}
	if err == nil && (i.Index.DeviceSize != i.Manifest.Device || i.Index.Algorithm != i.Manifest.Algorithm) {
		err = fault.New(fault.Corrupt, "it is not the index of this manifest")
	}
	if err != nil {
		return nil, fmt.Errorf("fetch the index of %s: %w", ref, err)
	}
	return i, nil
}

func (o *Origin) plain(ctx context.Context, b format.Blob) ([]byte, error) {
	stored, err := o.Blob(ctx, b.Digest, b.Size)
	if err != nil {
		return nil, err
	}
	dec, err := o.decoders.Get()
	if err != nil {
		return nil, err
	}
	defer o.decoders.Put(dec)
	return dec.Blob(b, stored)
}

// Tree fetches the metadata, once, and gives the tree. The caller must not change it.
func (i *Image) Tree(ctx context.Context) (*erofs.Node, error) {
	i.once.Do(func() { i.root, i.err = i.fetchTree(ctx) })
	return i.root, i.err
}

func (i *Image) fetchTree(ctx context.Context) (*erofs.Node, error) {
	b, err := i.origin.plain(ctx, i.Manifest.Metadata)
	if err != nil {
		return nil, fmt.Errorf("fetch the metadata of %s: %w", i.Ref, err)
	}
	img, err := erofs.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", i.Ref, err)
	}
	if img.DeviceSize() != i.Manifest.Device {
		return nil, fault.New(fault.Corrupt, "metadata of %s: it is of a device of %d bytes, the manifest says %d", i.Ref, img.DeviceSize(), i.Manifest.Device)
	}
	root, err := img.Tree()
	if err == nil {
		err = checkDepth(root)
	}
	if err != nil {
		return nil, fmt.Errorf("metadata of %s: %w", i.Ref, err)
	}
	return root, nil
}
