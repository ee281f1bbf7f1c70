package lazy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Stats are the counters of a device, as control.Stats has them. Bytes are of the device, plain, where nothing else is said.
type Stats struct {
	Wanted    int64  // asked for by readers
	Served    int64  // given to readers
	Fetched   int64  // stored bytes of chunks that came from origins
	Needed    int64  // stored bytes of the chunks that readers wanted, each once
	Shared    int64  // plain bytes copied from elsewhere in the cache
	Hits      int64  // reads answered without waiting
	Misses    int64  // reads that waited
	Errors    int64  // reads that failed
	Corrupt   int64  // chunks refused
	Requests  int64  // fetches begun; an origin may split or repeat one
	LastError string // names the chunk, and the origin where one is to blame
	Latency   []Bucket
	Waited    time.Duration // of all Misses together
	Prefetch  Prefetch
}

// Amplification is stored bytes that came, to stored bytes that readers wanted; 0 when they wanted none.
func (s Stats) Amplification() float64 {
	if s.Needed == 0 {
		return 0
	}
	return float64(s.Fetched) / float64(s.Needed)
}

// Bucket counts reads that took at most Le seconds, and longer than the bucket before. Le 0, in the last one: no limit. Reads that did
// not wait are in the first one.
type Bucket struct {
	Le    float64
	Count int64
}

// Prefetch is how far Replay or Complete is, in stored bytes.
type Prefetch struct {
	State string // none, trace, all, done
	Done  int64
	Total int64
}

// bounds are those of the latency's buckets, but the last.
func bounds() [11]time.Duration {
	const ms = time.Millisecond
	return [...]time.Duration{ms / 10, ms / 2, ms, 5 * ms, 10 * ms, 25 * ms, 50 * ms, 100 * ms, 250 * ms, 1000 * ms, 5000 * ms}
}

// counters is what a device counts while it goes.
type counters struct {
	wanted, served, fetched, needed, shared atomic.Int64
	hits, misses, errors, corrupt, requests atomic.Int64

	latency [12]atomic.Int64
	waiting atomic.Int64 // nanoseconds, of all misses

	mu      sync.Mutex
	last    string
	damaged error
}

// waited counts a read that was a miss.
func (c *counters) waited(took time.Duration) {
	c.misses.Add(1)
	limits := bounds()
	k := 0
	for k < len(limits) && took > limits[k] {
		k++
	}
	c.latency[k].Add(1)
	c.waiting.Add(int64(took))
}

func (c *counters) failed(err error) {
	c.errors.Add(1)
	c.note(err)
}

func (c *counters) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = err.Error()
}

// Damaged is the last error of a chunk that no origin has as it should be, of kind Corrupt; nil: there was none.
func (d *Device) Damaged() error {
	d.counters.mu.Lock()
	defer d.counters.mu.Unlock()
	return d.counters.damaged
}

// givenUp notes an error that a chunk is given up with.
func (c *counters) givenUp(err error) {
	if !fault.Is(err, fault.Corrupt) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damaged = err
}

// Stats gives the counters.
func (d *Device) Stats() Stats {
	c := &d.counters
	s := Stats{
		Wanted: c.wanted.Load(), Served: c.served.Load(), Fetched: c.fetched.Load(), Needed: c.needed.Load(), Shared: c.shared.Load(),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Errors: c.errors.Load(), Corrupt: c.corrupt.Load(), Requests: c.requests.Load(),
		Waited: time.Duration(c.waiting.Load()), Prefetch: d.progress(),
	}
	c.mu.Lock()
	s.LastError = c.last
	c.mu.Unlock()
	for k, le := range bounds() {
		s.Latency = append(s.Latency, Bucket{Le: le.Seconds(), Count: c.latency[k].Load()})
	}
	s.Latency[0].Count += s.Hits
	s.Latency = append(s.Latency, Bucket{Count: c.latency[len(s.Latency)].Load()})
	return s
}
