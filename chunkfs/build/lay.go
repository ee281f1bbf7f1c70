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
	members []member
	room    int // of all, in whole blocks
	content *content
}

type member struct {
	place *place
	file  *file
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
	release  func(*file) // it counts no longer; what of it is in the open group is little
	readers  *readers
	recall   *recall

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
	defer l.release(f)
	switch {
	case f.data == nil: // only its digest is known
	case len(f.data) <= l.o.Inline:
		f.node.Data = append([]byte(nil), f.data...)
		l.drop(f)
		return nil
	case isHole(f.data):
		l.drop(f)
		return nil
	default:
		l.recall.note(f.key, memory{kind: smallFile, parts: []part{{size: f.node.Size, sum: f.sum}}})
	}
	p := l.smalls[f.sum]
	if p != nil {
		l.drop(f)
	} else {
		p = new(place)
		l.smalls[f.sum] = p
		if err := l.add(ctx, f, p); err != nil {
			return err
		}
	}
	l.placed = append(l.placed, placed{f.node, p})
	return nil
}

// drop gives back the memory of a file.
func (l *layer) drop(f *file) {
	if f.data != nil {
		l.contents.buffers.put(f.data)
		f.data = nil
	}
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
	if l.open != nil && l.open.room+room > l.o.MaxChunk {
		if err := l.flush(ctx); err != nil {
			return err
		}
	}
	if l.open == nil {
		l.open = new(group)
	}
	g := l.open
	g.members = append(g.members, member{place: p, file: f, off: int64(g.room), size: f.node.Size})
	g.room += room
	if l.ends(f.sum, room) {
		return l.flush(ctx)
	}
	return nil
}

// ends says whether the open group ends with the file of this digest that takes so much room. As in FastCDC that is less likely than on
// average before the average size is reached, and more likely after.
func (l *layer) ends(sum format.Sum, room int) bool {
	size := l.open.room
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
	c, err := l.content(ctx, g)
	if err != nil {
		return err
	}
	for i := range g.members {
		l.drop(g.members[i].file)
		g.members[i].file = nil
	}
	g.content = c
	return l.send(ctx, step{group: g})
}

// content gives the chunk of a group. When some of its files were not read, it may be remembered too; else they are read now.
func (l *layer) content(ctx context.Context, g *group) (*content, error) {
	key := groupKey(g.members)
	if parts, size, ok := l.recall.find(key, groupOf); ok && len(parts) == 1 && size == int64(g.room) {
		if c, ok := l.contents.recalled(part{size: size, sum: parts[0].sum}); ok {
			l.recall.note(key, memory{kind: groupOf, parts: parts, length: size})
			return c, nil
		}
	}
	plain := l.contents.buffers.get(g.room)
	for _, m := range g.members {
		if m.file.data == nil {
			if err := l.readers.again(ctx, m.file); err != nil {
				return nil, err
			}
		}
		plain = append(plain, m.file.data...)
		plain = append(plain, zeroBlock[:int(roundUp(m.size)-m.size)]...)
	}
	c, err := l.contents.of(ctx, plain)
	if err != nil {
		return nil, err
	}
	l.contents.buffers.put(plain)
	l.recall.note(key, memory{kind: groupOf, parts: []part{{sum: c.sum}}, length: c.size})
	return c, nil
}
