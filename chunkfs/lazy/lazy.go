// Package lazy makes the data device of an image readable before it is there: it gives what the cache has, fetches what it does not,
// verifies all of it, and decides what to fetch ahead.
//
// It owns the life of a chunk between origin and cache, and no descriptor of FUSE.
//
// A chunk that is on its way is a flight: whoever wants it too joins it. Flights that lie together in a pack make a run, which is one
// request. A run begins at once for a reader that waits; what nobody waits for yet is queued, by urgency, and a reader that comes to
// want it takes it out of the queue, with its neighbours. Devices that share fetch a chunk once: of flights that would begin while another
// device fetches the same chunk, each waits for that one, and gets its bytes.
package lazy

import (
	"context"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Config says what a Device is made of. Zero fields get defaults.
type Config struct {
	Image     *cache.Image   // in use; the caller releases it after Close, when every Span has been released
	Origins   origin.Fetcher // the caller closes it after Close
	Sharing   *Sharing       // with other devices of the same cache; nil: with none
	Verify    bool           // check the digest of every chunk that comes; else only its form and size
	ReadAhead int64          // bytes that are fetched ahead of one sequential reader at most; 0: 4 MiB; -1: none
	Parallel  int            // requests ahead of readers at once, beside those that readers wait for; 0: 16
	Memory    int64          // bytes of memory for readers that wait, and for chunks that the cache has no room for; 0: 64 MiB
	Log       *logrus.Logger
}

// Device is the data device of one image. It is safe for many goroutines.
type Device struct {
	cfg   Config
	image *cache.Image
	index *format.Index
	fd    int
	log   *logrus.Entry

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	counters counters
	marks    []atomic.Uint32 // by chunk
	noting   atomic.Uint32   // the marks that every chunk that is read must have

	decoders format.Decoders
	slots    chan []byte // as many chunks are decoded at once; each is memory to decode into
	memory   *semaphore.Weighted

	mu         sync.Mutex
	closed     bool
	flights    map[uint32]*flight // by chunk
	queues     [3][]*flight       // by urgency: of streams, of a trace, of Complete
	begun      [3]int             // runs on their way, by origin.Class
	orphans    []orphan           // that dismiss is to see to
	completing int                // flights that Complete waits for
	drained    chan struct{}      // they have become fewer
	recent     recent
	streams    [streamCount]stream
	ticks      uint64
	line       line
	trace      []int
	prefetch   prefetch
}

// Open makes a device. Nothing is fetched yet.
func Open(cfg Config) (*Device, error) {
	if cfg.Image == nil || cfg.Origins == nil || cfg.Parallel < 0 || cfg.Memory < 0 {
		return nil, fault.New(fault.Invalid, "a device needs an image, origins, and nothing negative but ReadAhead")
	}
	def(&cfg.ReadAhead, 4<<20)
	def(&cfg.Parallel, 16)
	def(&cfg.Memory, 64<<20)
	if cfg.Log == nil {
		cfg.Log = logrus.StandardLogger()
	}
	x := cfg.Image.Index()
	d := &Device{
		cfg: cfg, image: cfg.Image, index: x, fd: int(cfg.Image.Data().Fd()),
		log:   cfg.Log.WithField("image", cfg.Image.Digest()),
		marks: make([]atomic.Uint32, len(x.Chunks)), slots: make(chan []byte, runtime.GOMAXPROCS(0)),
		memory: semaphore.NewWeighted(cfg.Memory), flights: map[uint32]*flight{}, drained: make(chan struct{}, 1),
		recent: recent{limit: cfg.Memory / 4},
	}
	for range cap(d.slots) {
		d.slots <- nil
	}
	d.noting.Store(markWanted)
	d.prefetch.state = "none"
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d, nil
}

func def[T int | int64](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Size is the size of the device in bytes.
func (d *Device) Size() int64 { return d.index.DeviceSize }

// IsComplete reports whether all of the device is in the cache and verified: the origins are not needed any more.
func (d *Device) IsComplete() bool { return d.image.Complete() }

// Close ends all fetches; waiting readers get an error. Spans stay valid until they are released.
func (d *Device) Close() error {
	d.cancel()
	d.mu.Lock()
	d.closed = true
	for _, f := range d.flights {
		d.settle(f, errClosed())
	}
	d.queues = [3][]*flight{}
	d.mu.Unlock()
	d.work.Wait()
	return nil
}

func errClosed() error { return fault.New(fault.Unavailable, "the image is being closed") }

// ReadAt is Read into p, as io.ReaderAt has it.
func (d *Device) ReadAt(p []byte, off int64) (int, error) {
	const most = 1 << 20 // as the kernel asks for at most
	done := 0
	for done < len(p) {
		s, err := d.Read(d.ctx, off+int64(done), min(len(p)-done, most))
		if err != nil {
			return done, err
		}
		if s.Size == 0 {
			return done, io.EOF
		}
		n, err := s.copyTo(p[done:])
		s.Release()
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
