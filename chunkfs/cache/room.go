package cache

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// room keeps what the cache takes under its quota. It counts what is going to be written, from above, and asks the file system what is
// really taken when that gets too much.
type room struct {
	mu       sync.Mutex
	quota    int64
	taken    int64     // when it was measured
	since    int64     // reserved since then, at most
	inflight int64     // reserved and not yet written
	until    time.Time // no room was found; it is not looked for again before
	noDisk   bool      // and it was the file system that had none
}

// pause is how long nothing is tried after no room was found: a full cache must not cost its readers more than a cache that is not there.
const pause = time.Second

func (r *room) set(quota, taken int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quota, r.taken = quota, taken
}

// measure takes the figure of a function that asks the file system. What is written while it does may be counted twice, but not never.
func (r *room) measure(taken func() int64) {
	r.mu.Lock()
	before, inflight := r.since, r.inflight
	r.mu.Unlock()
	sum := taken()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken, r.since = sum, r.since-before+inflight
}

// reserve takes room if it is there. Tired says that it is no use to look for some.
func (r *room) reserve(n int64) (ok, tired bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tired = !r.until.IsZero() && time.Now().Before(r.until)
	if tired && r.noDisk || r.taken+r.since+n > r.quota {
		return false, tired
	}
	r.since += n
	r.inflight += n
	return true, false
}

func (r *room) written(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inflight -= n
}

// giveBack undoes reserve for what is not going to be written.
func (r *room) giveBack(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inflight -= n
	r.since = max(r.since-n, r.inflight)
}

func (r *room) limit() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quota
}

// over is by how much the quota is exceeded if n more are taken; negative where there is room.
func (r *room) over(n int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken + r.since + n - r.quota
}

func (r *room) none() { r.tire(false) }

// full says that the file system has no room.
func (r *room) full() { r.tire(true) }

func (r *room) tire(noDisk bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until, r.noDisk = time.Now().Add(pause), noDisk
}

// retry says that there may be room now.
func (r *room) retry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = time.Time{}
}

// slack is how much more than needed is evicted at once.
func (r *room) slack() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return min(r.quota/32, 64<<20)
}

// reserve takes room for n bytes, and evicts what may be evicted for it.
func (c *Cache) reserve(n int64, u Urgency) bool {
	ok, tired := c.room.reserve(n)
	if ok || tired {
		return ok
	}
	c.evicting.Lock()
	defer c.evicting.Unlock()
	// Another may have made room meanwhile, or found none.
	if ok, tired = c.room.reserve(n); ok || tired {
		return ok
	}
	c.room.measure(c.measure)
	if over := c.room.over(n); over > 0 {
		c.evict(over+c.room.slack(), u)
		c.room.measure(c.measure)
	}
	if ok, _ = c.room.reserve(n); !ok && u == Wanted {
		c.room.none()
	}
	return ok
}

// Room says whether there is room for n bytes now, with what may be evicted for nobody.
func (m *Image) Room(n int64) bool {
	if !m.cache.reserve(n, Spare) {
		return false
	}
	m.cache.room.giveBack(n)
	return true
}

// makeSpace evicts since the file system is full, below the quota. It says whether it is worth to try again.
func (c *Cache) makeSpace(n int64, u Urgency) bool {
	c.evicting.Lock()
	defer c.evicting.Unlock()
	freed := c.evict(n+c.room.slack(), u)
	c.room.measure(c.measure)
	return freed > 0
}

// measure is what the cache takes on the disk, in bytes.
func (c *Cache) measure() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := int64(0)
	for _, e := range c.entries {
		sum += e.taken()
	}
	return sum
}

// taken is what the image takes on the disk. Cache.mu is held.
func (e *entry) taken() int64 {
	if e.image == nil {
		return e.bytes
	}
	return e.bytes + e.image.allocated()
}

// defaultQuota leaves room for others on the file system, and of a tmpfs, which is memory, at least half.
func defaultQuota(dir string, used int64) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	quota := used + int64(st.Bavail)*st.Bsize/5*4
	if st.Type == unix.TMPFS_MAGIC {
		quota = min(quota, int64(st.Blocks)*st.Bsize/2)
	}
	if quota <= 0 {
		return 0, fault.New(fault.Unavailable, "there is no room on the file system of %s", dir)
	}
	return quota, nil
}

// canPunch tries whether the file system frees a part of a file.
func canPunch(dir string) (bool, error) {
	f, err := os.CreateTemp(dir+"/../trash", "punch")
	if err != nil {
		return false, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if err := f.Truncate(1 << 20); err != nil {
		return false, fmt.Errorf("make a sparse file: %w", err)
	}
	return punch(f, 0, 1<<20) == nil, nil
}

func punch(f *os.File, from, size int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, size)
}
