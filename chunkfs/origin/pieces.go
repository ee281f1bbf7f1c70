package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	maxSpan   = 32 << 20  // bytes of one request
	maxGap    = 256 << 10 // between two pieces of one request
	maxPieces = 1 << 16   // of one Fetch
)

// pieces is a Fetch under way.
type pieces struct {
	f    Fetch
	path string

	mu   sync.Mutex // also while a piece is delivered: one goroutine at a time
	got  []bool
	left int
	over bool // nothing is delivered any more
}

func newPieces(f Fetch, path string) (*pieces, error) {
	if f.Pack.Size <= 0 || f.Pack.Size > format.MaxPack {
		return nil, fault.New(fault.Invalid, "fetch of a pack of %d bytes: packs have 1 to %d", f.Pack.Size, format.MaxPack)
	}
	if len(f.Pieces) > maxPieces {
		return nil, fault.New(fault.Invalid, "fetch of %d pieces at once: %d are the limit", len(f.Pieces), maxPieces)
	}
	var end int64
	for i, p := range f.Pieces {
		if p.Size <= 0 || p.Size > format.MaxChunk || p.Offset < end || p.Size > f.Pack.Size-p.Offset {
			return nil, fault.New(fault.Invalid, "fetch of piece %d (%d bytes at %d): it does not fit behind the one before, in the pack of %d bytes, or in a chunk",
				i, p.Size, p.Offset, f.Pack.Size)
		}
		end = p.Offset + p.Size
	}
	if f.Class < Demand || f.Class > Background {
		return nil, fault.New(fault.Invalid, "fetch of class %d: there is none", f.Class)
	}
	return &pieces{f: f, path: path, got: make([]bool, len(f.Pieces)), left: len(f.Pieces)}, nil
}

func (p *pieces) done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.left == 0
}

// close waits until nothing is being delivered, and lets nothing be after that.
func (p *pieces) close() {
	p.mu.Lock()
	p.over = true
	p.mu.Unlock()
}

// group is what one request asks for: missing pieces from first on, until one that is not missing or too far away.
func (p *pieces) group() (first, end int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first = slices.Index(p.got, false)
	if first < 0 {
		return 0, 0
	}
	list := p.f.Pieces
	for end = first + 1; end < len(list) && !p.got[end]; end++ {
		before := list[end-1].Offset + list[end-1].Size
		if list[end].Offset-before > maxGap || list[end].Offset+list[end].Size-list[first].Offset > maxSpan {
			break
		}
	}
	return first, end
}

// try fetches the next group. What is not right is fetched elsewhere; the rest of the answer is used all the same.
func (p *pieces) try(ctx context.Context, a *attempt) error {
	first, end := p.group()
	if first == end {
		return nil
	}
	list := p.f.Pieces[first:end]
	last := list[len(list)-1]
	c, err := a.site.open(ctx, want{path: p.path, from: list[0].Offset, to: last.Offset + last.Size, size: p.f.Pack.Size, fresh: a.fresh, meter: a}, a.site)
	if err != nil {
		return err
	}
	defer c.close()
	damage := p.read(c, a, first, list)
	if damage == nil || isCorrupt(damage) {
		c.finish()
	}
	return damage
}

func (p *pieces) read(c *content, a *attempt, first int, list []Piece) error {
	var largest int64
	for _, piece := range list {
		largest = max(largest, piece.Size)
	}
	buf := a.site.set.buffers.take(largest)
	defer a.site.set.buffers.give(buf)
	var damage error
	at := list[0].Offset
	for i, piece := range list {
		if err := discard(c, piece.Offset-at, buf); err != nil {
			return err
		}
		b := (*buf)[:piece.Size]
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
		at = piece.Offset + piece.Size
		switch err := p.deliver(first+i, b, a); {
		case err == nil:
		case isCorrupt(err):
			damage = err
		default:
			return err
		}
		if p.done() {
			break
		}
	}
	return damage
}

func isCorrupt(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.verdict == corrupt
}

func (p *pieces) deliver(i int, b []byte, a *attempt) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.got[i] {
		return nil // another attempt was faster
	}
	a.busy.Store(true)
	err := p.f.Deliver(i, b)
	a.busy.Store(false)
	switch {
	case err == nil:
		p.got[i] = true
		p.left--
		if p.left == 0 {
			a.complete()
		}
		return nil
	case fault.Is(err, fault.Corrupt):
		a.site.corrupt.Add(1)
		piece := p.f.Pieces[i]
		return failed(corrupt, fault.Corrupt, "piece %d (%d bytes at %d) is not right: %s", i, piece.Size, piece.Offset, err).hinted(hintBytes)
	}
	return &fatal{fmt.Errorf("take piece %d of pack %s: %w", i, p.f.Pack.Sum, err)}
}

// buffers hold one piece each, by size: 64 KiB, and four times as much each.
type buffers [4]sync.Pool

const smallestBuffer = 64 << 10

func (p *buffers) take(size int64) *[]byte {
	class := 0
	for smallestBuffer<<(2*class) < size {
		class++
	}
	if b, ok := p[class].Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, smallestBuffer<<(2*class))
	return &b
}

func (p *buffers) give(b *[]byte) {
	class := 0
	for smallestBuffer<<(2*class) < len(*b) {
		class++
	}
	p[class].Put(b)
}

func discard(r io.Reader, n int64, buf *[]byte) error {
	for n > 0 {
		k, err := io.ReadFull(r, (*buf)[:min(n, smallestBuffer)])
		n -= int64(k)
		if err != nil {
			return err
		}
	}
	return nil
}
