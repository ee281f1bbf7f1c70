package corrupt

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/lazy"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
)

// deadline is far beyond what any answer takes: what reaches it hangs.
const deadline = 20 * time.Second

// quiet is a log that nobody reads: every flip is a warning.
func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// origins are directories, asked in turn without the pauses that are for networks.
func origins(t testing.TB, dirs ...string) *origin.Set {
	t.Helper()
	s := unasked(t, dirs...)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// unasked are origins of which nothing is known, so that the first is asked first. The caller closes them.
func unasked(t testing.TB, dirs ...string) *origin.Set {
	t.Helper()
	var list []origin.Config
	for _, dir := range dirs {
		list = append(list, origin.Config{URL: dir})
	}
	s, err := origin.New(list, origin.Options{Log: quiet(), Timing: origin.Timing{Hedge: time.Hour, Pause: 1, Longest: 1, Retire: 1}})
	must(t, err)
	return s
}

// forgetful is origins that remember nothing from one fetch to the next.
type forgetful struct {
	*origin.Set
	t    testing.TB
	dirs []string
}

func (f forgetful) Fetch(ctx context.Context, a format.Algorithm, want origin.Fetch) error {
	s := unasked(f.t, f.dirs...)
	defer s.Close()
	return s.Fetch(ctx, a, want)
}

func cacheIn(t testing.TB, dir string) *cache.Cache {
	t.Helper()
	c, err := tryCache(dir)
	must(t, err)
	return c
}

func tryCache(dir string) (*cache.Cache, error) {
	return cache.Open(cache.Config{Dir: dir, Quota: 1 << 30, Log: quiet()})
}

// reader is an image that has been opened.
type reader struct {
	from origin.Fetcher
	img  *cache.Image
	dev  *lazy.Device
	meta *os.File
	im   *erofs.Image
}

// resolve finds out which image a tag names, as the server does; pinned is what it has to be, or zero.
func resolve(ctx context.Context, from origin.Fetcher, tag string, pinned format.Digest) (format.Digest, error) {
	d, err := from.Tag(ctx, tag)
	if err == nil && !pinned.IsZero() && d != pinned {
		return d, fmt.Errorf("tag %s is image %s, not %s", tag, d, pinned)
	}
	return d, err
}

// bring gets an image into the cache, as the server does.
func bring(ctx context.Context, c *cache.Cache, from origin.Fetcher, d format.Digest) (*cache.Image, error) {
	if img, err := c.Lookup(ctx, d); err == nil {
		return img, nil
	}
	manifest, err := from.Blob(ctx, d, format.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := format.DecodeManifest(manifest)
	if err != nil {
		return nil, err
	}
	index, err := from.Blob(ctx, m.Index.Digest, m.Index.Size)
	if err != nil {
		return nil, err
	}
	metadata, err := from.Blob(ctx, m.Metadata.Digest, m.Metadata.Size)
	if err != nil {
		return nil, err
	}
	return c.Add(ctx, d, manifest, index, metadata)
}

// open opens an image of the cache or the origins.
func open(ctx context.Context, c *cache.Cache, from origin.Fetcher, d format.Digest) (*reader, error) {
	img, err := bring(ctx, c, from, d)
	if err != nil {
		return nil, err
	}
	r := &reader{from: from, img: img}
	if r.meta, err = os.Open(img.MetadataPath()); err != nil {
		img.Release()
		return nil, err
	}
	if r.dev, err = lazy.Open(lazy.Config{Image: img, Origins: from, Verify: true, ReadAhead: -1, Log: quiet()}); err != nil {
		r.close()
		return nil, err
	}
	st, err := r.meta.Stat()
	if err == nil {
		r.im, err = erofs.Open(r.meta, st.Size())
	}
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *reader) close() {
	if r.dev != nil {
		_ = r.dev.Close()
	}
	r.meta.Close()
	r.img.Release()
}

// readAt is a read as one of the kernel is answered.
func (r *reader) readAt(ctx context.Context, p []byte, off int64) error {
	for len(p) > 0 {
		s, err := r.dev.Read(ctx, off, min(len(p), 1<<20))
		if err != nil {
			return err
		}
		n := copy(p, s.Bytes)
		if s.Fd >= 0 {
			n, err = r.img.Data().ReadAt(p[:s.Size], s.Offset)
		}
		s.Release()
		if err != nil || n == 0 {
			return fmt.Errorf("%d bytes at %d: %w", n, off, err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// everything reads all there is.
func (r *reader) everything(ctx context.Context) (tree, error) {
	w := &walker{im: r.im, read: r.readAt, all: tree{}}
	err := w.walk(ctx, r.im.Root(), ".")
	return w.all, err
}
