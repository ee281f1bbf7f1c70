package lazy

import (
	"context"
	"fmt"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/cache"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Read gives n bytes at off, fewer at the end of the device and none behind it, when all of them are there and verified. The Span must be
// released. An error concerns this read only: the next one tries again. Read returns when ctx ends, and with an error of kind
// Unavailable when the device is closed.
func (d *Device) Read(ctx context.Context, off int64, n int) (Span, error) {
	if off < 0 || n < 0 {
		return Span{}, fault.New(fault.Invalid, "read %d bytes at %d of a device", n, off)
	}
	n = int(min(int64(n), max(d.index.DeviceSize-off, 0)))
	if n == 0 {
		return Span{Fd: -1}, nil
	}
	first := d.index.Find(off)
	last, there := first, true
	for end := off + int64(n); ; last++ {
		there = d.usable(d.image.Hold(last)) && there
		d.note(last)
		if d.index.Start(last+1) >= end {
			break
		}
	}
	d.counters.wanted.Add(int64(n))
	if there {
		d.counters.hits.Add(1)
		d.counters.served.Add(int64(n))
		return Span{Fd: d.fd, Offset: off, Size: n, device: d, first: first, last: last}, nil
	}
	begin := time.Now()
	s, err := d.wait(ctx, off, n, first, last)
	d.counters.waited(time.Since(begin))
	if err != nil {
		d.drop(first, last)
		if ctx.Err() == nil {
			d.counters.failed(err)
		}
		return Span{}, fmt.Errorf("read %d bytes at %d of image %s: %w", n, off, d.image.Digest(), err)
	}
	d.counters.served.Add(int64(n))
	return s, nil
}

// usable says whether what the cache has may be given to readers.
func (d *Device) usable(s cache.State) bool {
	return s == cache.Good || s == cache.Unchecked && !d.cfg.Verify
}

// wait is Read when not all is there, of extents that are held. After an error they are still.
func (d *Device) wait(ctx context.Context, off int64, n, first, last int) (Span, error) {
	lent := min(int64(n), d.cfg.Memory)
	if err := d.lend(ctx, lent); err != nil {
		return Span{}, err
	}
	w := &wait{off: off, n: n, first: first, done: make(chan struct{})}
	err := d.join(w, last)
	if err == nil {
		err = d.await(ctx, w)
	}
	if err == nil && w.bytes != nil {
		err = d.gather(w, last)
	}
	if err != nil {
		d.memory.Release(lent)
		return Span{}, err
	}
	if w.bytes == nil {
		d.memory.Release(lent)
		return Span{Fd: d.fd, Offset: off, Size: n, device: d, first: first, last: last}, nil
	}
	d.drop(first, last)
	return Span{Fd: -1, Size: n, Bytes: w.bytes, device: d, memory: lent}, nil
}

// lend takes memory for a reader before it waits for anything else. So what is fetched for it always has a place, and readers that come
// too many wait here.
func (d *Device) lend(ctx context.Context, n int64) error {
	if d.memory.TryAcquire(n) {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	if err := d.memory.Acquire(ctx, n); err != nil {
		if d.ctx.Err() != nil {
			return errClosed()
		}
		return err
	}
	return nil
}

// wait is a reader that waits. Fields are Device.mu's until done is closed.
type wait struct {
	off    int64
	n      int
	first  int
	left   int // flights that it waits for
	on     []*flight
	stream *stream // that it belongs to, or nil
	err    error
	done   chan struct{}
	// What the cache had no room for. Then the whole answer comes from memory.
	bytes []byte
	got   []bool // by extent, from first on
	// What it had no room for before, and was still in memory. The cache is asked again.
	refused []refusal
}

type refusal struct {
	extent int
	plain  []byte
}

// put copies the part of an extent that the reader wants.
func (w *wait) put(i int, start int64, plain []byte) {
	if w.bytes == nil {
		w.bytes = make([]byte, w.n)
	}
	for len(w.got) <= i-w.first {
		w.got = append(w.got, false)
	}
	w.got[i-w.first] = true
	if start >= w.off {
		copy(w.bytes[start-w.off:], plain)
	} else {
		copy(w.bytes, plain[w.off-start:])
	}
}

func (w *wait) has(i int) bool { return i-w.first < len(w.got) && w.got[i-w.first] }

// landed ends the waiting for one flight.
func (w *wait) landed(err error) {
	if w.left <= 0 {
		return // it has failed or left already
	}
	if w.left--; err != nil {
		w.left, w.err = 0, err
	}
	if w.left == 0 {
		close(w.done)
	}
}

// join makes the reader wait for all that is missing, and begins to fetch what is not on its way.
func (d *Device) join(w *wait, last int) error {
	for i := w.first; i <= last; i++ {
		if d.image.State(i) == cache.Missing || d.usable(d.image.State(i)) {
			continue
		}
		if d.image.Check(i) != cache.Good && d.index.Extents[i].Chunk == format.Zero {
			return fault.New(fault.Backend, "the chunk cache cannot be read")
		}
	}
	mine, err := d.board(w, last)
	if err != nil {
		return err
	}
	d.retry(w)
	d.fly(d.local(mine), w)
	return nil
}

// board joins or makes the flights that a reader needs, and gives those that have not begun.
func (d *Device) board(w *wait, last int) (mine []*flight, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, errClosed()
	}
	missed := false
	for i := w.first; i <= last; i++ {
		// Who brought it meanwhile has said so before it let go of the lock.
		if d.usable(d.image.State(i)) {
			continue
		}
		chunk := d.index.Extents[i].Chunk
		if chunk == format.Zero {
			continue // it was made good above, and nothing undoes that
		}
		missed = true
		if plain := d.recent.get(chunk); plain != nil {
			w.put(i, d.index.Start(i), plain)
			w.refused = append(w.refused, refusal{i, plain})
			continue
		}
		f := d.flight(chunk, i)
		if f.claim(w, i) {
			mine = append(mine, f)
		}
	}
	if w.left == 0 {
		close(w.done)
	}
	if missed {
		d.follow(w, last)
	}
	return mine, nil
}

// await waits until all flights of a reader have landed, or it has had enough.
func (d *Device) await(ctx context.Context, w *wait) error {
	select {
	case <-w.done:
		return w.err
	default:
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		d.leave(w)
		return ctx.Err()
	}
}

// leave takes a reader off its flights. Those that nobody else wants end.
func (d *Device) leave(w *wait) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.left = 0
	for _, f := range w.on {
		if !f.done {
			f.disclaim(w)
			if len(f.claims) == 0 && !f.ahead {
				d.settle(f, context.Canceled)
			}
		}
	}
}

// gather completes an answer from memory with what is in the cache.
func (d *Device) gather(w *wait, last int) error {
	for i := w.first; i <= last; i++ {
		if w.has(i) {
			continue
		}
		from, to := max(d.index.Start(i), w.off), min(d.index.Start(i+1), w.off+int64(w.n))
		if _, err := d.image.Data().ReadAt(w.bytes[from-w.off:to-w.off], from); err != nil {
			return fmt.Errorf("read the chunk cache: %w", err)
		}
	}
	return nil
}
