// Package cache keeps the images of a node on its disk, or in its tmpfs: for each its manifest, index, metadata, and the data device as a
// sparse file that fills as chunks come. Chunks that two images share are fetched once and copied from one to the other.
//
// Nothing found at start is trusted: a chunk is verified the first time that it is used. The cache knows nothing of origins.
//
// Locks, in the order in which they are taken: Cache.evicting, entry.loading, Image.space, Cache.mu, then those of present and room. A
// reader of a chunk that is there takes none of them.
package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// ErrFull says that there is no room: the caller serves the chunk from memory.
var ErrFull = errors.New("the chunk cache is full")

// Config says where a cache is and how much it may take.
type Config struct {
	Dir   string // an absolute path; made when it is not there
	Quota int64  // bytes on the disk; 0: 80 % of what is free, and on a tmpfs at most half of its size
	// WorkingSet is how long a chunk of an image in use is kept after its last use, whatever the quota; 0: 30 s.
	WorkingSet time.Duration
	Log        *logrus.Logger
}

// Cache is the cache of a node. It is safe for many goroutines.
type Cache struct {
	dir        string
	images     string // directory
	lock       *os.File
	canPunch   bool // the file system can free a part of a file
	workingSet uint32
	log        *logrus.Logger

	// now counts seconds; Hold reads it in place of the clock, which would cost more than the rest of it.
	now   atomic.Uint32
	stop  chan struct{}
	work  sync.WaitGroup
	peers sync.WaitGroup // loading of images that may share

	room     room
	evicting sync.Mutex // one eviction at a time
	settled  bool       // there may be one; evicting's
	mu       sync.Mutex
	entries  map[format.Digest]*entry

	evicted, refused, damaged atomic.Int64

	buffers sync.Pool // *[]byte, for chunks
}

// longAgo is where now begins, so that 0 is older than any working set.
const longAgo = 1 << 24

// Open opens the cache in a directory and takes its lock: an error of kind Busy when another server has it, Unsupported when another
// version of windlass made it.
func Open(cfg Config) (*Cache, error) {
	if !filepath.IsAbs(cfg.Dir) || cfg.Quota < 0 || cfg.WorkingSet < 0 {
		return nil, fault.New(fault.Invalid, "a cache needs an absolute path (it is %q), and neither quota nor working set may be negative", cfg.Dir)
	}
	c := &Cache{dir: cfg.Dir, log: cfg.Log, stop: make(chan struct{}), entries: map[format.Digest]*entry{}}
	c.buffers.New = func() any { return new([]byte) }
	if c.log == nil {
		c.log = logrus.StandardLogger()
	}
	if c.workingSet = uint32(cfg.WorkingSet / time.Second); cfg.WorkingSet == 0 {
		c.workingSet = 30
	}
	c.now.Store(longAgo)
	if err := c.open(cfg.Quota); err != nil {
		if c.lock != nil {
			c.lock.Close()
		}
		return nil, fmt.Errorf("open the chunk cache %s: %w", cfg.Dir, err)
	}
	c.work.Go(c.tick)
	return c, nil
}

func (c *Cache) open(quota int64) (err error) {
	if err := c.place(); err != nil {
		return err
	}
	c.warnOfOthers()
	if c.canPunch, err = canPunch(c.images); err != nil {
		return err
	}
	if err := c.scan(); err != nil {
		return err
	}
	used := c.measure()
	if quota == 0 {
		if quota, err = defaultQuota(c.images, used); err != nil {
			return err
		}
	}
	c.room.set(quota, used)
	return nil
}

func (c *Cache) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-t.C:
			c.now.Add(1)
		}
	}
}

// Close gives up the lock. Every Image must have been released.
func (c *Cache) Close() error {
	close(c.stop)
	c.work.Wait()
	c.peers.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		c.unload(e)
	}
	return c.lock.Close()
}

// Settle says that the server has taken up what its predecessor left. Before it nothing is evicted, since it is not known yet what is
// in use, and images that were SetDirect when the predecessor died are not removed, since the kernel may still read them. Nothing goes of
// those that could not be taken up although the kernel does, as long as this server lives.
func (c *Cache) Settle(notTakenUp ...format.Digest) {
	c.evicting.Lock()
	c.settled = true
	c.evicting.Unlock()
	c.room.retry()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.entries {
		if slices.Contains(notTakenUp, e.digest) {
			continue
		}
		if e.kept && e.direct == 0 {
			e.unmark(directMark)
		}
		e.kept = false
	}
}
