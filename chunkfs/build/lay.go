package build

import (
	"context"
	"encoding/binary"
	"math"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// place is where content of files lies on the device. Files of equal content share one.
type place struct {
	extents []erofs.Extent // set by the placer
}

// placed is a file and its place.
type placed struct {
	node  *erofs.Node
	place *place
}

// group is small files that are one chunk: whole files, each from a block's beginning on.
type group struct {
	plain   []byte
	members []member
	content *content
}

type member struct {
	place *place
	off   int64 // in the group
	size  int64
}

// step is what the layer hands to the placer: one of the three.
type step struct {
	group   *group
	file    *file // a large one
	barrier *barrier
}

// barrier is passed when all before it has been placed. What follows goes to a pack of its own.
type barrier struct {
	passed chan struct{}
}

// layer takes the files in the order of the walk, gathers the small ones, and finds those that are equal to an earlier one.
//
// A group ends where the digest of its last file says so, as a chunk ends where the bytes before its end say so: a file that changes,
// comes or goes changes the group it is in, and seldom the next.
type layer struct {
	o        Options
	contents *contents
	in       <-chan step // files, small ones too, and barriers
	out      chan<- step
	release  func(*file) // its memory is free

	open   *group
	smalls map[format.Sum]*place
	placed []placed
}

func (l *layer) run(ctx context.Context) error {
	defer close(l.out)
	for {
		select {
		case s, ok := <-l.in:
			if !ok {
				return l.flush(ctx)
			}
			if err := l.step(ctx, s); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (l *layer) step(ctx context.Context, s step) error {
	if s.file != nil && s.file.read != nil {
		return l.small(ctx, s.file)
	}
	if s.barrier != nil {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	return l.send(ctx, s)
}

func (l *layer) send(ctx context.Context, s step) error {
	select {
	case l.out <- s:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *layer) small(ctx context.Context, f *file) error {
	select {
	case <-f.read:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() {
		l.contents.buffers.put(f.data)
		f.data = nil
		l.release(f)
	}()
	switch {
	case len(f.data) <= l.o.Inline:
		f.node.Data = append([]byte(nil), f.data...)
		return nil
	case isHole(f.data):
		return nil
	}
	p := l.smalls[f.sum]
	if p == nil {
		p = new(place)
		l.smalls[f.sum] = p
		if err := l.add(ctx, f, p); err != nil {
			return err
		}
	}
	l.placed = append(l.placed, placed{f.node, p})
	return nil
}

func isHole(data []byte) bool {
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}

func (l *layer) add(ctx context.Context, f *file, p *place) error {
	room := int(roundUp(f.node.Size))
	if l.open != nil && len(l.open.plain)+room > l.o.MaxChunk {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	if l.open == nil {
		l.open = &group{plain: l.contents.buffers.get(l.o.AvgChunk)}
	}
	g := l.open
	g.members = append(g.members, member{place: p, off: int64(len(g.plain)), size: f.node.Size})
	g.plain = append(g.plain, f.data...)
	g.plain = append(g.plain, zeroBlock[:room-len(f.data)]...)
	if l.ends(f.sum, room) {
		return l.flush(ctx)
	}
	return nil
}

// ends says whether the open group ends with the file of this digest that takes so much room. As in FastCDC that is less likely than on
// average before the average size is reached, and more likely after.
func (l *layer) ends(sum format.Sum, room int) bool {
	size := len(l.open.plain)
	if size < l.o.MinChunk {
		return false
	}
	mean := uint64(l.o.AvgChunk) << normalization
	if size >= l.o.AvgChunk {
		mean = uint64(l.o.AvgChunk) >> normalization
	}
	if uint64(room) >= mean {
		return true
	}
	return binary.LittleEndian.Uint64(sum[:]) < math.MaxUint64/mean*uint64(room)
}

// normalization is that of FastCDC, in bits.
const normalization = 2

// flush hands the open group on.
func (l *layer) flush(ctx context.Context) error {
	g := l.open
	if g == nil {
		return nil
	}
	l.open = nil
	c, err := l.contents.of(ctx, g.plain)
	if err != nil {
		return err
	}
	l.contents.buffers.put(g.plain)
	g.plain, g.content = nil, c
	return l.send(ctx, step{group: g})
}
