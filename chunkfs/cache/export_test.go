package cache

import "errors"

// settled waits until images that may share have been loaded.
func (c *Cache) settled() {
	c.peers.Wait()
}

func isFull(err error) bool { return errors.Is(err, ErrFull) }
