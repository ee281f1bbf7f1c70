package cache

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// Image is one image in the cache. Extents are named by their number in the index.
type Image struct {
	entry    *entry
	cache    *Cache
	manifest *format.Manifest
	index    *format.Index
	data     *os.File
	present  *present

	extents []extent
	size    int64
	good    atomic.Int64 // bytes of Good extents that have a chunk
	notGood atomic.Int64 // extents

	// space is held for reading while an extent is written and its state set, and for writing while a hole is punched: chunks share
	// blocks with their neighbours.
	space sync.RWMutex
	hand  int // where the next sweep begins; Cache.evicting is held

	// Which extents have a chunk: the first by chunk, and the next one of the same chunk by extent.
	first, next []int32
	sorted      func() []uint32 // the chunks, by sum
}

// openImage opens the data of an image whose description is verified, and makes it when it is not there.
func openImage(e *entry, k known) (*Image, error) {
	m := &Image{entry: e, cache: e.cache, manifest: k.manifest, index: k.index, extents: make([]extent, len(k.index.Extents))}
	data, err := os.OpenFile(e.path(dataFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	m.data = data
	info, err := data.Stat()
	if err == nil {
		fresh := info.Size() == 0
		if m.present, err = openPresent(e.path(presentFile), len(m.extents)); err == nil {
			err = m.begin(fresh, m.present.fresh)
		}
	}
	if err != nil {
		m.close()
		return nil, fmt.Errorf("open the data of image %s: %w", e.digest, err)
	}
	m.link()
	m.sorted = sync.OnceValue(m.sort)
	return m, nil
}

// begin gives data its size and every extent its first state. Where the hint of present was lost everything may be there: the data is not
// freed, since the kernel may be reading it without us.
func (m *Image) begin(fresh, lost bool) error {
	if fresh || lost {
		if err := m.present.reset(!fresh); err != nil {
			return err
		}
	}
	if err := m.data.Truncate(m.index.DeviceSize); err != nil {
		return err
	}
	for i, x := range m.index.Extents {
		state := Missing
		if x.Chunk == format.Zero && fresh {
			state = Good
		} else if x.Chunk == format.Zero || m.present.has(i) {
			state = Suspect
		}
		m.extents[i].word.Store(uint64(state))
		if state != Good {
			m.notGood.Add(1)
		}
		if x.Chunk != format.Zero {
			m.size += x.Size
		}
	}
	return nil
}

// link chains the extents of each chunk.
func (m *Image) link() {
	m.first, m.next = make([]int32, len(m.index.Chunks)), make([]int32, len(m.extents))
	for c := range m.first {
		m.first[c] = -1
	}
	for i := len(m.extents) - 1; i >= 0; i-- {
		if c := m.index.Extents[i].Chunk; c != format.Zero {
			m.next[i], m.first[c] = m.first[c], int32(i)
		}
	}
}

func (m *Image) close() {
	if m.present != nil {
		m.present.close()
	}
	m.data.Close()
}

// allocated is what data takes on the disk, in bytes.
func (m *Image) allocated() int64 {
	var st unix.Stat_t
	if err := unix.Fstat(int(m.data.Fd()), &st); err != nil {
		return 0
	}
	return st.Blocks * 512
}

// Release ends the use that Add or Lookup began.
func (m *Image) Release() {
	c := m.cache
	c.mu.Lock()
	m.entry.users--
	m.entry.touch()
	c.mu.Unlock()
	c.unref(m.entry)
	c.room.retry() // there may be something to evict now
}

// Digest names the image.
func (m *Image) Digest() format.Digest { return m.entry.digest }

// Manifest is the image's manifest; not to be changed.
func (m *Image) Manifest() *format.Manifest { return m.manifest }

// Index is the image's index; not to be changed.
func (m *Image) Index() *format.Index { return m.index }

// MetadataPath is the EROFS metadata as the kernel mounts it.
func (m *Image) MetadataPath() string { return m.entry.path(metadataFile) }

// DataPath is the data device.
func (m *Image) DataPath() string { return m.entry.path(dataFile) }

// Data is the data device, open for reading and writing as long as the image is in use.
func (m *Image) Data() *os.File { return m.data }

// Complete reports whether every extent is Good.
func (m *Image) Complete() bool { return m.notGood.Load() == 0 }

// Size is the bytes of all extents that have a chunk; Cached of those that are Good.
func (m *Image) Size() int64 { return m.size }

// Cached is how much of Size is Good.
func (m *Image) Cached() int64 { return m.good.Load() }

// SetDirect says that the kernel reads DataPath itself, or no more; calls nest. Nothing of the image is evicted meanwhile, also after
// the death of this process, until the next one calls Settle. Whether the image is Complete is to be asked after it, not before.
func (m *Image) SetDirect(on bool) error {
	if err := m.setDirect(on); err != nil {
		return fmt.Errorf("keep image %s for the kernel: %w", m.entry.digest, err)
	}
	// An eviction that had begun is over when this lock is free.
	m.space.Lock()
	defer m.space.Unlock()
	return nil
}

func (m *Image) setDirect(on bool) error {
	c, e := m.cache, m.entry
	c.mu.Lock()
	defer c.mu.Unlock()
	if on {
		// Counted first: from here on nothing is evicted.
		if e.direct++; e.direct > 1 {
			return nil
		}
		if err := e.mark(directMark, bootID()); err != nil {
			e.direct--
			return err
		}
		return nil
	}
	if e.direct--; e.direct == 0 && !e.kept {
		e.unmark(directMark)
	}
	return nil
}

// SetPin keeps the image and all its chunks from eviction, or no more. It is kept across starts.
func (m *Image) SetPin(on bool) error {
	c, e := m.cache, m.entry
	c.mu.Lock()
	defer c.mu.Unlock()
	if !on {
		e.pinned = false
		e.unmark(pinMark)
		return nil
	}
	if err := e.mark(pinMark, ""); err != nil {
		return fmt.Errorf("pin image %s: %w", e.digest, err)
	}
	e.pinned = true
	return nil
}

// Pinned reports whether the image is pinned.
func (m *Image) Pinned() bool {
	m.cache.mu.Lock()
	defer m.cache.mu.Unlock()
	return m.entry.pinned
}
