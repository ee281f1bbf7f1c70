package cache

import (
	"github.com/windlass-hpc/windlass/internal/fault"
)

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
