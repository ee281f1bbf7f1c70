// Package cache keeps the images of a node on its disk, or in its tmpfs: for each its manifest, index, metadata, and the data device as a
// sparse file that fills as chunks come. Chunks that two images share are fetched once and copied from one to the other.
//
// Nothing found at start is trusted: a chunk is verified the first time that it is used. The cache knows nothing of origins.
package cache

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// ErrFull says that there is no room: the caller serves the chunk from memory.
var ErrFull = errors.New("the chunk cache is full")

// State is what the cache knows of one extent of an image.
type State uint8

// The states.
const (
	Missing   State = iota
	Suspect         // it may be there, from before this process; Check it
	Unchecked       // it was written by this process, for a mount that does not verify; others Check it
	Good            // it is there and was verified in this process
)

// Config says where a cache is and how much it may take.
type Config struct {
	Dir   string // an absolute path; made when it is not there
	Quota int64  // bytes on the disk; 0: 80 % of what is free, and on a tmpfs at most half of its size
	// WorkingSet is how long a chunk of an image in use is kept after its last use, whatever the quota; 0: 30 s.
	WorkingSet time.Duration
	Log        *logrus.Logger
}

// Cache is the cache of a node. It is safe for many goroutines.
type Cache struct{}

// Open opens the cache in a directory and takes its lock: an error of kind Busy when another server has it, Unsupported when another
// version of windlass made it.
func Open(cfg Config) (*Cache, error) { return nil, fault.New(fault.Unsupported, "not yet") }

// Close gives up the lock. Every Image must have been released.
func (c *Cache) Close() error { return nil }

// Settle says that the server has taken up what its predecessor left. Before it, images that were mounted Direct when the predecessor
// died are left alone, since the kernel may still read them.
func (c *Cache) Settle() {}

// Add puts an image into the cache, or finds it there. It verifies manifest, index and metadata, which are the bytes as stored, against
// image and each other: an error of kind Corrupt. What is returned is in use until Release.
func (c *Cache) Add(ctx context.Context, image format.Digest, manifest, index, metadata []byte) (*Image, error) {
	return nil, fault.New(fault.Unsupported, "not yet")
}

// Lookup finds an image and verifies its manifest, index and metadata again: an error of kind NotFound when it is not there, or not
// whole; then Add makes it whole, and chunks that are there stay. What is returned is in use until Release.
func (c *Cache) Lookup(ctx context.Context, image format.Digest) (*Image, error) {
	return nil, fault.New(fault.NotFound, "not yet")
}

// Remove deletes an image: kind Busy when it is in use, NotFound when it is not there. A pin does not protect it.
func (c *Cache) Remove(ctx context.Context, image format.Digest) error { return nil }

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
func (c *Cache) Images() []Info { return nil }

// Stats is the state of a cache.
type Stats struct {
	Dir     string `json:"dir"`
	Quota   int64  `json:"quota"`
	Bytes   int64  `json:"bytes"`   // on the disk
	Images  int    `json:"images"`  //
	Evicted int64  `json:"evicted"` // bytes, since the start
	Refused int64  `json:"refused"` // chunks that were not kept because there was no room
	Damaged int64  `json:"damaged"` // chunks that were found damaged
}

// Stats tells how the cache is doing.
func (c *Cache) Stats() Stats { return Stats{} }

// Image is one image in the cache. Extents are named by their number in the index.
type Image struct{}

// Release ends the use that Add or Lookup began.
func (m *Image) Release() {}

// Digest names the image.
func (m *Image) Digest() format.Digest { return format.Digest{} }

// Manifest is the image's manifest; not to be changed.
func (m *Image) Manifest() *format.Manifest { return nil }

// Index is the image's index; not to be changed.
func (m *Image) Index() *format.Index { return nil }

// MetadataPath is the EROFS metadata as the kernel mounts it.
func (m *Image) MetadataPath() string { return "" }

// DataPath is the data device.
func (m *Image) DataPath() string { return "" }

// Data is the data device, open for reading and writing as long as the image is in use.
func (m *Image) Data() *os.File { return nil }

// SetDirect says that the kernel reads DataPath itself, or no more; calls nest. Nothing of the image is evicted meanwhile, also after
// the death of this process, until the next one calls Settle.
func (m *Image) SetDirect(on bool) error { return nil }

// SetPin keeps the image and all its chunks from eviction, or no more. It is kept across starts.
func (m *Image) SetPin(on bool) error { return nil }

// Pinned reports whether SetPin was called.
func (m *Image) Pinned() bool { return false }

// Complete reports whether every extent is Good.
func (m *Image) Complete() bool { return false }

// Size is the bytes of all extents that have a chunk; Cached of those that are Good.
func (m *Image) Size() int64 { return 0 }

// Cached is how much of Size is Good.
func (m *Image) Cached() int64 { return 0 }

// VerifyAll checks all that is not Good yet, in parallel. It returns nil when the image is then complete, and an error of kind NotFound
// that says how much is missing when it is not.
func (m *Image) VerifyAll(ctx context.Context) error { return nil }

// Hold keeps extent i from eviction until Drop, and marks it as used.
func (m *Image) Hold(i int) State { return Missing }

// Drop ends a Hold.
func (m *Image) Drop(i int) {}

// State is what is known of extent i.
func (m *Image) State(i int) State { return Missing }

// Check verifies extent i, which the caller holds, unless it is Good; it is Good or Missing afterwards. A hole is made good.
func (m *Image) Check(i int) State { return Missing }
