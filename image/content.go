package image

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/origin"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// The data device is read in windows: small ones where reads jump, larger ones where they go on, the next one while this one is used.
const (
	firstWindow = 256 << 10 // plain bytes
	lastWindow  = 16 << 20
	maxHeld     = 64 << 20 // of all windows that are kept
	maxRequest  = 2 << 20  // stored bytes of one request, so that several are decoded at once
	maxGap      = 64 << 10 // that a request reads over
)

// content reads the data of an image, mostly in order. It is used by one goroutine. Close it.
type content struct {
	img     *Image
	ctx     context.Context //nolint:containedctx // it is one operation
	cancel  context.CancelFunc
	slots   chan struct{} // requests at work
	work    sync.WaitGroup
	windows []*window // least recently used first
	held    int64
	next    int // extent behind the window last read
	size    int64
}

// window is the chunks of some extents that follow each other.
type window struct {
	first, end int // extents
	bytes      int64
	ready      chan struct{} // closed when chunks and err are there
	mu         sync.Mutex    // of both until then
	chunks     map[uint32][]byte
	err        error
	cancel     context.CancelFunc
}

func (i *Image) content(ctx context.Context) *content {
	c := &content{img: i, slots: make(chan struct{}, 2*runtime.GOMAXPROCS(0)), next: -1}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// Close ends what is being fetched.
func (c *content) Close() {
	c.cancel()
	c.work.Wait()
}

// read gives emit the pieces of a run of the device, in order. Of what reads as zeros because it is a hole of the device, piece is nil.
func (c *content) read(off, size int64, emit func(off int64, piece []byte, size int64) error) error {
	x := c.img.Index
	if off < 0 || size < 0 || off > x.DeviceSize || size > x.DeviceSize-off {
		return fault.New(fault.Corrupt, "the metadata names bytes %d to %d of a data device of %d", off, off+size, x.DeviceSize)
	}
	for size > 0 {
		i := x.Find(off)
		skip := off - x.Start(i)
		n := min(x.Extents[i].Size-skip, size)
		piece, err := c.extent(i)
		if err != nil {
			return err
		}
		if piece != nil {
			piece = piece[skip : skip+n]
		}
		if err := emit(off, piece, n); err != nil {
			return err
		}
		off, size = off+n, size-n
	}
	return c.ctx.Err()
}

// file gives emit the content of a regular file, holes as nil, by offsets of the file.
func (c *content) file(n *erofs.Node, emit func(off int64, piece []byte, size int64) error) error {
	if n.Data != nil {
		return emit(0, n.Data, n.Size)
	}
	at := int64(0)
	for _, e := range n.Extents {
		if e.Offset > at {
			if err := emit(at, nil, e.Offset-at); err != nil {
				return err
			}
		}
		err := c.read(e.Device, e.Size, func(off int64, piece []byte, size int64) error {
			return emit(e.Offset+off-e.Device, piece, size)
		})
		if err != nil {
			return err
		}
		at = e.Offset + e.Size
	}
	if at < n.Size {
		return emit(at, nil, n.Size-at)
	}
	return nil
}

// extent gives the bytes of one extent, nil of a hole.
func (c *content) extent(i int) ([]byte, error) {
	e := c.img.Index.Extents[i]
	if e.Chunk == format.Zero {
		return nil, nil
	}
	w := c.window(i)
	select {
	case <-w.ready:
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
	if w.err != nil {
		return nil, w.err
	}
	return w.chunks[e.Chunk], nil
}

// window gives the one that holds an extent, and sees to it that the next one comes.
func (c *content) window(i int) *window {
	at := slices.IndexFunc(c.windows, func(w *window) bool { return w.first <= i && i < w.end })
	var w *window
	switch {
	case at >= 0:
		w = c.windows[at]
		c.windows = append(slices.Delete(c.windows, at, at+1), w)
	default:
		if i != c.next {
			c.size = firstWindow
		}
		w = c.start(i)
	}
	if c.next == w.first { // reads go on
		c.ahead(w.end)
	}
	c.next = w.end
	return w
}

func (c *content) ahead(i int) {
	if i >= len(c.img.Index.Extents) || slices.ContainsFunc(c.windows, func(w *window) bool { return w.first <= i && i < w.end }) {
		return
	}
	c.size = min(c.size*2, lastWindow)
	c.start(i)
}

// start begins to fetch a window. Old ones go when there is too much.
func (c *content) start(i int) *window {
	x := c.img.Index
	w := &window{first: i, end: i, ready: make(chan struct{}), chunks: map[uint32][]byte{}}
	for ; w.end < len(x.Extents) && (w.bytes < c.size || w.end == i); w.end++ {
		if e := x.Extents[w.end]; e.Chunk != format.Zero {
			w.chunks[e.Chunk] = nil
			w.bytes += e.Size
		}
	}
	c.held += w.bytes
	for len(c.windows) > 1 && c.held > maxHeld {
		c.held -= c.windows[0].bytes
		c.windows[0].cancel()
		c.windows = slices.Delete(c.windows, 0, 1)
	}
	c.windows = append(c.windows, w)
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(c.ctx)
	c.work.Go(func() {
		defer w.cancel()
		defer close(w.ready)
		w.err = c.fetch(ctx, w)
	})
	return w
}

// fetch gets the chunks of a window, in as few requests as they can be decoded by.
func (c *content) fetch(ctx context.Context, w *window) error {
	x := c.img.Index
	list := make([]uint32, 0, len(w.chunks))
	for n := range w.chunks {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b uint32) int {
		return cmp.Or(cmp.Compare(x.Chunks[a].Pack, x.Chunks[b].Pack), cmp.Compare(x.Chunks[a].Offset, x.Chunks[b].Offset))
	})
	var all sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for len(list) > 0 {
		n := c.together(list)
		run := list[:n]
		list = list[n:]
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		all.Go(func() {
			defer func() { <-c.slots }()
			if err := c.request(ctx, w, run); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// together says how many of the chunks, in order of pack and offset, make one request.
func (c *content) together(list []uint32) int {
	chunks := c.img.Index.Chunks
	first := chunks[list[0]]
	end := first.Offset + first.Stored
	for n, i := range list[1:] {
		next := chunks[i]
		if next.Pack != first.Pack || next.Offset < end || next.Offset-end > maxGap || next.Offset+next.Stored-first.Offset > maxRequest {
			return n + 1
		}
		end = next.Offset + next.Stored
	}
	return len(list)
}

func (c *content) request(ctx context.Context, w *window, run []uint32) error {
	x := c.img.Index
	dec, err := c.img.origin.decoders.Get()
	if err != nil {
		return err
	}
	defer c.img.origin.decoders.Put(dec)
	f := origin.Fetch{Pack: x.Packs[x.Chunks[run[0]].Pack]}
	for _, n := range run {
		f.Pieces = append(f.Pieces, origin.Piece{Offset: int64(x.Chunks[n].Offset), Size: int64(x.Chunks[n].Stored)})
	}
	f.Deliver = func(piece int, stored []byte) error {
		n := run[piece]
		plain, err := dec.Chunk(nil, x.Algorithm, x.Chunks[n], stored)
		if err != nil {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.chunks[n] = plain
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := c.img.origin.from.Fetch(ctx, x.Algorithm, f); err != nil {
		return fmt.Errorf("read the data of %s: %w", c.img.Ref, err)
	}
	return nil
}
