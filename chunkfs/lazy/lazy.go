// Package lazy makes the data device of an image readable before it is there: it gives what the cache has, fetches what it does not,
// verifies all of it, and decides what to fetch ahead.
//
// It owns the life of a chunk between origin and cache, and no descriptor of FUSE.
package lazy

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Config says what a Device is made of. Zero fields get defaults.
type Config struct {
	Image     *cache.Image   // in use; the caller releases it after Close, when every Span has been released
	Origins   origin.Fetcher // the caller closes it after Close
	Verify    bool           // check the digest of every chunk that comes; else only its form and size
	ReadAhead int64          // bytes that are fetched ahead of one sequential reader at most; 0: 4 MiB; -1: none
	Parallel  int            // requests ahead of readers at once, beside those that readers wait for; 0: 8
	Memory    int64          // bytes of memory for readers that wait, and for chunks that the cache has no room for; 0: 64 MiB
	Log       *logrus.Logger
}

// Device is the data device of one image. It is safe for many goroutines.
type Device struct{}

// Open makes a device. Nothing is fetched yet.
func Open(cfg Config) (*Device, error) { return nil, fault.New(fault.Unsupported, "not yet") }

// Size is the size of the device in bytes.
func (d *Device) Size() int64 { return 0 }

// Read gives n bytes at off, fewer at the end of the device and none behind it, when all of them are there and verified. The Span must be
// released. An error concerns this read only: the next one tries again. Read returns when ctx ends, and with an error of kind
// Unavailable when the device is closed.
func (d *Device) Read(ctx context.Context, off int64, n int) (Span, error) { return Span{}, nil }

// ReadAt is Read into p, as io.ReaderAt has it.
func (d *Device) ReadAt(p []byte, off int64) (int, error) { return 0, nil }

// Span is a piece of the device. It is a value, to be released once.
type Span struct {
	Fd     int    // of the cache file, when the span is in it; else -1
	Offset int64  // in the cache file
	Size   int    // bytes
	Bytes  []byte // Size bytes, when Fd is -1
}

// Release lets the span's chunks be evicted and its memory be used again. The caller does not touch Bytes, nor read from Fd, afterwards.
func (s *Span) Release() {}

// Replay fetches what a trace names, in its order, ahead of readers. It returns at once; chunks that the image does not have are passed
// over.
func (d *Device) Replay(tr *format.Trace) {}

// Complete fetches all that is missing in the background, in the order of the device, after what Replay has begun. It returns at once.
func (d *Device) Complete() {}

// IsComplete reports whether all of the device is in the cache and verified: the origins are not needed any more.
func (d *Device) IsComplete() bool { return false }

// StartTrace begins to record, anew, in which order readers want extents for the first time.
func (d *Device) StartTrace() {}

// StopTrace ends that and gives the numbers of the extents in that order.
func (d *Device) StopTrace() []int { return nil }

// Close ends all fetches; waiting readers get an error. Spans stay valid until they are released.
func (d *Device) Close() error { return nil }

// Stats gives the counters.
func (d *Device) Stats() Stats { return Stats{} }
