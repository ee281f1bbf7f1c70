package serve

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// resolve finds out which image is asked for. With a digest no origin is asked when the cache has the image: then img is it.
func (s *server) resolve(ctx context.Context, o *control.Open, from origin.Fetcher) (d format.Digest, img *cache.Image, err error) {
	tag, d, err := wanted(o)
	if err != nil {
		return d, nil, err
	}
	if !d.IsZero() {
		img, err := s.cache.Lookup(ctx, d)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return d, img, err
		}
	}
	if tag == "" {
		return d, nil, nil
	}
	found, err := from.Tag(ctx, tag)
	if err != nil {
		return d, nil, err
	}
	if !d.IsZero() && d != found {
		return d, nil, fault.Hintf(fault.New(fault.Corrupt, "tag %s is image %s, and not %s as asked for", tag, found, d),
			"the tag has moved on, or the origin is not to be trusted; ask for the digest alone, or for the one that the tag has")
	}
	return found, nil, nil
}

// image gives an image, from the cache or by way of it. It is in use until it is released.
func (s *server) image(ctx context.Context, m *mount, d format.Digest) (*cache.Image, error) {
	img, err := s.cache.Lookup(ctx, d)
	if err == nil || !fault.Is(err, fault.NotFound) {
		return img, err
	}
	if m.wantsTrace() { // it will be there when prefetch asks for it
		m.work.Go(func() { _, _ = m.trace() })
	}
	ended, mine := s.fetching(ctx, d)
	defer ended()
	if !mine {
		if img, err := s.cache.Lookup(ctx, d); err == nil || !fault.Is(err, fault.NotFound) {
			return img, err
		}
	}
	return s.fetchImage(ctx, d, m.origins)
}

// patience is how long a mount waits for another one to fetch what its image is: its own origins may be better.
const patience = 5 * time.Second

// fetching notes that an image is being fetched, until ended is called. When it is already, it waits for the end of that, and the image is
// not mine: it may be there now.
func (s *server) fetching(ctx context.Context, d format.Digest) (ended func(), mine bool) {
	s.mu.Lock()
	coming := s.coming[d]
	if coming == nil {
		coming = make(chan struct{})
		s.coming[d] = coming
		s.mu.Unlock()
		return func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.coming, d)
			close(coming)
		}, true
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-coming:
	case <-ctx.Done():
	}
	return func() {}, false
}

func (s *server) fetchImage(ctx context.Context, d format.Digest, from origin.Fetcher) (*cache.Image, error) {
	manifest, err := from.Blob(ctx, d, format.MaxManifest)
	if err != nil {
		return nil, fmt.Errorf("fetch the manifest of image %s: %w", d, err)
	}
	m, err := format.DecodeManifest(manifest)
	if err != nil {
		return nil, fmt.Errorf("manifest of image %s: %w", d, err)
	}
	var index, metadata []byte
	both, bothCtx := errgroup.WithContext(ctx)
	fetch := func(to *[]byte, what string, b format.Blob) {
		both.Go(func() (err error) {
			if *to, err = from.Blob(bothCtx, b.Digest, b.Size); err != nil {
				return fmt.Errorf("fetch the %s of image %s: %w", what, d, err)
			}
			return nil
		})
	}
	fetch(&index, "index", m.Index)
	fetch(&metadata, "metadata", m.Metadata)
	if err := both.Wait(); err != nil {
		return nil, err
	}
	return s.cache.Add(ctx, d, manifest, index, metadata)
}

func (s *server) origins(o *control.Open) (*origin.Set, error) {
	return origin.New(o.Origins, origin.Options{Bandwidth: o.Bandwidth, Log: s.log})
}
