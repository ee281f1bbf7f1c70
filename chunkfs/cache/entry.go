package cache

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// entry is an image's directory. Fields below loading are Cache.mu's.
type entry struct {
	cache  *Cache
	digest format.Digest
	dir    string

	loading sync.Mutex // held while the files are read, written, or deleted

	image  *Image // loaded, or nil
	refs   int    // who uses image: mounts, and for a moment the cache itself
	users  int    // mounts among them
	direct int    // mounts past this process among them
	kept   bool   // was direct when a predecessor died, and Settle has not come
	pinned bool
	used   time.Time
	bytes  int64 // on the disk; without data while image is loaded
	gone   bool  // deleted; set with loading held too
}

func (e *entry) path(name string) string { return filepath.Join(e.dir, name) }

func (e *entry) marked(name string) bool {
	_, err := os.Lstat(e.path(name))
	return err == nil
}

func (e *entry) markSays(name string) string {
	b, _ := os.ReadFile(e.path(name))
	return string(b)
}

func (e *entry) mark(name, says string) error { return writeFile(e.path(name), []byte(says)) }

// unmark removes a mark; where that fails, the next start sees it still and keeps the image for longer than it had to.
func (e *entry) unmark(name string) { _ = os.Remove(e.path(name)) }

// protected says that nothing of the image is evicted. Cache.mu is held.
func (e *entry) protected() bool { return e.pinned || e.direct > 0 || e.kept }

// idle says that the whole image may be evicted. Cache.mu is held.
func (e *entry) idle() bool { return e.users == 0 && !e.protected() && !e.gone }

// touch notes that the image is in use now, for the order of eviction. Cache.mu is held.
func (e *entry) touch() {
	e.used = time.Now()
	_ = os.Chtimes(e.path(manifestFile), e.used, e.used) // without it the image is evicted a little early
}

// maxIdle is how many images that are not in use stay loaded, for others to share.
const maxIdle = 8

// unref ends a use of a loaded image.
func (c *Cache) unref(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.refs--; e.refs == 0 && e.gone {
		c.unload(e)
	}
	c.unloadIdle()
}

// unloadIdle frees the memory of images that are not in use, the longest unused first. Cache.mu is held.
func (c *Cache) unloadIdle() {
	for {
		var oldest *entry
		idle := 0
		for _, e := range c.entries {
			if e.image == nil || e.refs > 0 {
				continue
			}
			idle++
			if oldest == nil || e.used.Before(oldest.used) {
				oldest = e
			}
		}
		if idle <= maxIdle {
			return
		}
		c.unload(oldest)
	}
}

// unload closes the files of an image that nobody uses. Cache.mu is held.
func (c *Cache) unload(e *entry) {
	if e.image == nil {
		return
	}
	e.bytes += e.image.allocated()
	e.image.close()
	e.image = nil
}
