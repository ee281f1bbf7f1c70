package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
		err = fmt.Errorf("add image %s to the chunk cache: %w", image, err)
		if _, serr := os.Stat(c.images); errors.Is(serr, fs.ErrNotExist) {
			// It is not made again here: its lock went with it, and another server may have the place by now.
			err = fault.Hintf(err, "the cache's directory was removed under the chunkfs server: kill that, and its keeper starts one that makes the directory anew")
		}
		return nil, err
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
