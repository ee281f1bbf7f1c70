package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Add puts an image into the cache, or finds it there. It verifies manifest, index and metadata, which are the bytes as stored, against
// image and each other: an error of kind Corrupt. What is returned is in use until Release.
func (c *Cache) Add(ctx context.Context, image format.Digest, manifest, index, metadata []byte) (*Image, error) {
	if m, err := c.Lookup(ctx, image); err == nil || !fault.Is(err, fault.NotFound) {
		return m, err
	}
	k, plain, err := decode(image, manifest, index, metadata)
	if err != nil {
		return nil, fmt.Errorf("add image %s to the chunk cache: %w", image, err)
	}
	// Room is made by the quota, and once more if the file system has less than that; but no image is refused for the quota's sake.
	size := int64(len(manifest) + len(index) + len(plain))
	if c.reserve(size, Wanted) {
		c.room.written(size)
	}
	m, err := c.put(image, k, manifest, index, plain)
	if noSpace(err) && c.makeSpace(size, Wanted) {
		m, err = c.put(image, k, manifest, index, plain)
	}
	if err != nil {
		return nil, fmt.Errorf("add image %s to the chunk cache: %w", image, err)
	}
	return m, nil
}

// put writes the files of an image and begins a use of it.
func (c *Cache) put(image format.Digest, k known, manifest, index, metadata []byte) (m *Image, err error) {
	e := c.lockEntry(image)
	defer e.loading.Unlock()
	if err = e.write(manifest, index, metadata); err == nil {
		m, err = c.begin(e, k)
	}
	if err != nil {
		c.abandon(e)
		return nil, err
	}
	return m, nil
}

// abandon forgets an image that could not be written, unless it is in use. entry.loading is held.
func (c *Cache) abandon(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.image != nil || e.gone {
		return
	}
	e.gone = true
	delete(c.entries, e.digest)
	_ = c.discard(e.dir) // without its manifest the next start does it
}

// Lookup finds an image and verifies its manifest, index and metadata again: an error of kind NotFound when it is not there, or not
// whole; then Add makes it whole, and chunks that are there stay. What is returned is in use until Release.
func (c *Cache) Lookup(ctx context.Context, image format.Digest) (*Image, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	e := c.entries[image]
	c.mu.Unlock()
	if e == nil {
		return nil, fault.New(fault.NotFound, "image %s is not in the chunk cache", image)
	}
	e.loading.Lock()
	defer e.loading.Unlock()
	k, err := e.read()
	if err == nil {
		err = e.checkMetadata()
	}
	if err != nil {
		c.log.WithField("image", image).WithError(err).Warn("image in the chunk cache is not whole; it is fetched again")
		return nil, fault.New(fault.NotFound, "image %s is in the chunk cache, but not whole: %v", image, err)
	}
	return c.begin(e, k)
}

// lockEntry finds or makes the entry of an image, and takes its lock.
func (c *Cache) lockEntry(image format.Digest) *entry {
	for {
		c.mu.Lock()
		e := c.entries[image]
		if e == nil {
			e = &entry{cache: c, digest: image, dir: filepath.Join(c.images, imageName(image))}
			c.entries[image] = e
		}
		c.mu.Unlock()
		e.loading.Lock()
		if !e.gone { // it is set with this lock held
			return e
		}
		e.loading.Unlock()
	}
}

// begin starts a use of an image whose files are right. entry.loading is held.
func (c *Cache) begin(e *entry, k known) (*Image, error) {
	m, err := c.load(e, k)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	e.users++
	e.touch()
	c.mu.Unlock()
	c.loadPeers()
	return m, nil
}

// load opens the data of an image, unless it is open, and refs it. entry.loading is held.
func (c *Cache) load(e *entry, k known) (*Image, error) {
	c.mu.Lock()
	m, gone := e.image, e.gone
	if m != nil {
		e.refs++
	}
	c.mu.Unlock()
	if m != nil {
		return m, nil
	}
	if gone {
		return nil, fault.New(fault.NotFound, "image %s has been removed from the chunk cache just now", e.digest)
	}
	m, err := openImage(e, k)
	if err != nil {
		return nil, err
	}
	rest := allocated(e.dir) - m.allocated()
	c.mu.Lock()
	defer c.mu.Unlock()
	e.image, e.bytes = m, rest
	e.refs++
	return m, nil
}

// loadPeers loads images that nobody uses, in the background, so that those in use can share with them.
func (c *Cache) loadPeers() {
	c.peers.Go(func() {
		for _, e := range c.idleEntries(true) {
			select {
			case <-c.stop:
				return
			default:
			}
			c.mu.Lock()
			want := e.image == nil && !e.gone && c.loadedIdle() < maxIdle
			c.mu.Unlock()
			if want {
				c.peek(e)
			}
		}
	})
}

// loadedIdle counts the images that are loaded and not in use. Cache.mu is held.
func (c *Cache) loadedIdle() int {
	n := 0
	for _, e := range c.entries {
		if e.image != nil && e.refs == 0 {
			n++
		}
	}
	return n
}

// peek loads an image without taking it into use. Who gets nil finds the files wrong, or somebody else at work on them.
func (c *Cache) peek(e *entry) {
	if m := c.take(e); m != nil {
		c.unref(e)
	}
}

// take loads an image and refs it, for the cache itself.
func (c *Cache) take(e *entry) *Image {
	if !e.loading.TryLock() {
		return nil
	}
	defer e.loading.Unlock()
	k, err := e.read()
	if err != nil {
		return nil
	}
	m, err := c.load(e, k)
	if err != nil {
		return nil
	}
	return m
}

// known is what describes an image, verified.
type known struct {
	manifest *format.Manifest
	index    *format.Index
}

// decode verifies what Add was given.
func decode(image format.Digest, manifest, index, metadata []byte) (known, []byte, error) {
	k, err := decodeKnown(image, manifest, index)
	if err != nil {
		return known{}, nil, err
	}
	plain, err := decodeBlob(k.manifest.Metadata, metadata)
	if err != nil {
		return known{}, nil, fmt.Errorf("metadata: %w", err)
	}
	return k, plain, nil
}

func decodeKnown(image format.Digest, manifest, index []byte) (known, error) {
	if !image.Algorithm.Valid() {
		return known{}, fault.New(fault.Invalid, "an image is named by a digest")
	}
	if got := image.Algorithm.Of(manifest); got != image {
		return known{}, fault.New(fault.Corrupt, "manifest has the digest %s", got)
	}
	m, err := format.DecodeManifest(manifest)
	if err != nil {
		return known{}, err
	}
	plain, err := decodeBlob(m.Index, index)
	if err != nil {
		return known{}, fmt.Errorf("index: %w", err)
	}
	x, err := format.DecodeIndex(plain)
	if err != nil {
		return known{}, fmt.Errorf("index: %w", err)
	}
	if x.Algorithm != m.Algorithm || x.DeviceSize != m.Device {
		return known{}, fault.New(fault.Corrupt, "index and manifest do not agree: %s and %d bytes here, %s and %d there", x.Algorithm, x.DeviceSize, m.Algorithm, m.Device)
	}
	return known{m, x}, nil
}

func decodeBlob(b format.Blob, stored []byte) ([]byte, error) {
	d, err := format.NewDecoder()
	if err != nil {
		return nil, err
	}
	return d.Blob(b, stored)
}

// read verifies what the directory says of the image. An image that is loaded has been read.
func (e *entry) read() (known, error) {
	e.cache.mu.Lock()
	m := e.image
	e.cache.mu.Unlock()
	if m != nil {
		return known{m.manifest, m.index}, nil
	}
	manifest, err := readFile(e.path(manifestFile), format.MaxManifest)
	if err != nil {
		return known{}, err
	}
	index, err := readFile(e.path(indexFile), format.MaxIndex)
	if err != nil {
		return known{}, err
	}
	return decodeKnown(e.digest, manifest, index)
}

// checkMetadata verifies the metadata as it lies there. The manifest has the digest of the stored bytes alone, so that of the plain
// ones was noted when they were verified.
func (e *entry) checkMetadata() error {
	says, err := readFile(e.path(sumFile), 100)
	if err != nil {
		return err
	}
	want, err := format.ParseDigest(string(says))
	if err != nil {
		return err
	}
	f, err := os.OpenFile(e.path(metadataFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	h := want.Algorithm.Hash()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := want.Algorithm.DigestOf(h); got != want {
		return fault.New(fault.Corrupt, "metadata has the digest %s and should have %s", got, want)
	}
	return nil
}

// write puts the files of an image there; the manifest, last, says that they are complete. What is there of the data stays.
func (e *entry) write(manifest, index, metadata []byte) error {
	if err := os.Mkdir(e.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	for _, f := range []struct {
		name string
		b    []byte
	}{
		{indexFile, index},
		{metadataFile, metadata},
		{sumFile, []byte(format.BLAKE3.Of(metadata).String())},
		{manifestFile, manifest},
	} {
		if err := writeFile(e.path(f.name), f.b); err != nil {
			return err
		}
	}
	return nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fault.New(fault.Corrupt, "%s is larger than %d bytes", path, limit)
	}
	return b, err
}
