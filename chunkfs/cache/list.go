package cache

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Info describes an image of the cache.
type Info struct {
	Image  format.Digest `json:"image"`
	Size   int64         `json:"size"`   // bytes of its chunks, plain; 0 while it is not loaded
	Bytes  int64         `json:"bytes"`  // that it takes on the disk
	Pinned bool          `json:"pinned"` // is not evicted
	Users  int           `json:"users"`  // mounts
	Used   time.Time     `json:"used"`   // when it was last taken into use or released
}

// Images lists what is in the cache, by digest.
func (c *Cache) Images() []Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	infos := make([]Info, 0, len(c.entries))
	for _, e := range c.entries {
		i := Info{Image: e.digest, Bytes: e.taken(), Pinned: e.pinned, Users: e.users, Used: e.used}
		if e.image != nil {
			i.Size = e.image.size
		}
		infos = append(infos, i)
	}
	slices.SortFunc(infos, func(a, b Info) int { return strings.Compare(a.Image.String(), b.Image.String()) })
	return infos
}

// Stats is the state of a cache.
type Stats struct {
	Dir     string `json:"dir"`
	Quota   int64  `json:"quota"`
	Bytes   int64  `json:"bytes"` // on the disk
	Images  int    `json:"images"`
	Evicted int64  `json:"evicted"` // bytes, since the start
	Refused int64  `json:"refused"` // chunks that were not kept because there was no room
	Damaged int64  `json:"damaged"` // chunks that were found damaged
}

// Stats tells how the cache is doing.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	images := len(c.entries)
	c.mu.Unlock()
	return Stats{
		Dir: c.dir, Quota: c.room.limit(), Bytes: c.measure(), Images: images,
		Evicted: c.evicted.Load(), Refused: c.refused.Load(), Damaged: c.damaged.Load(),
	}
}

// Remove deletes an image: kind Busy when it is in use, NotFound when it is not there. A pin does not protect it.
func (c *Cache) Remove(ctx context.Context, image format.Digest) error {
	c.mu.Lock()
	e := c.entries[image]
	c.mu.Unlock()
	if e == nil {
		return fault.New(fault.NotFound, "image %s is not in the chunk cache", image)
	}
	if err := c.remove(e, func() bool { return e.users == 0 && e.direct == 0 && !e.kept }); err != nil {
		return fmt.Errorf("remove image %s from the chunk cache: %w", image, err)
	}
	return nil
}

// removeIdle deletes an image that may be evicted, and says whether it did.
func (c *Cache) removeIdle(e *entry) bool {
	err := c.remove(e, e.idle)
	if err != nil && !fault.Is(err, fault.Busy) {
		c.log.WithField("image", e.digest).WithError(err).Warn("image could not be deleted from the chunk cache")
	}
	return err == nil
}

func (c *Cache) remove(e *entry, may func() bool) error {
	if !e.loading.TryLock() {
		return fault.New(fault.Busy, "it is being opened")
	}
	defer e.loading.Unlock()
	c.mu.Lock()
	if e.gone || !may() {
		defer c.mu.Unlock()
		if e.gone {
			return fault.New(fault.NotFound, "it is gone already")
		}
		return fault.Hintf(fault.New(fault.Busy, "%d mounts use it", e.users), "unmount it first")
	}
	// From here on nobody finds it. Who still reads it for another image has its file open, and verifies what he reads.
	e.gone = true
	delete(c.entries, e.digest)
	if e.refs == 0 {
		c.unload(e)
	}
	c.mu.Unlock()
	c.room.retry()
	return c.discard(e.dir)
}
