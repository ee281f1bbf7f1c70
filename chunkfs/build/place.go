package build

import (
	"context"
	"encoding/binary"
	"hash"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// placer gives chunks their place on the device and in packs, in order. All of the index that depends on an order is made here.
type placer struct {
	in      <-chan step
	packs   *packs
	release func(*file)
	told    func(stored int64) // progress

	device  int64
	extents []format.Extent
	chunks  []format.Chunk // Pack is a slot of packs
	larges  map[format.Digest]*place
	placed  []placed
	buffers *buffers
	alg     format.Algorithm

	stored, reused int64
	newChunks      int64
}

func (p *placer) run(ctx context.Context) error {
	for {
		select {
		case s, ok := <-p.in:
			if !ok {
				return p.packs.close(ctx)
			}
			if err := p.step(ctx, s); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *placer) step(ctx context.Context, s step) error {
	switch {
	case s.group != nil:
		return p.group(ctx, s.group)
	case s.file != nil:
		defer p.release(s.file)
		return p.file(ctx, s.file)
	}
	if err := p.packs.end(ctx); err != nil {
		return err
	}
	close(s.barrier.passed)
	return nil
}

func (p *placer) group(ctx context.Context, g *group) error {
	number, err := p.chunk(ctx, g.content)
	if err != nil {
		return err
	}
	for _, m := range g.members {
		m.place.extents = []erofs.Extent{{Device: p.device + m.off, Size: m.size}}
	}
	return p.extend(format.Extent{Size: g.content.size, Chunk: number})
}

// extend adds to the end of the device.
func (p *placer) extend(more ...format.Extent) error {
	for _, e := range more {
		p.device += e.Size
		p.extents = appendExtent(p.extents, e)
	}
	if p.device > format.MaxDeviceSize || len(p.extents) > format.MaxExtents {
		return fault.New(fault.TooLarge, "the files need %d bytes in %d pieces: an image has at most %d in %d", p.device, len(p.extents), int64(format.MaxDeviceSize), format.MaxExtents)
	}
	return nil
}

// appendExtent keeps zeros that touch one extent.
func appendExtent(list []format.Extent, e format.Extent) []format.Extent {
	if n := len(list); e.Chunk == format.Zero && n > 0 && list[n-1].Chunk == format.Zero {
		list[n-1].Size += e.Size
		return list
	}
	return append(list, e)
}

// chunk gives the number of the chunk of a content; at the first time it comes, that is the next one, and the chunk goes to its pack.
func (p *placer) chunk(ctx context.Context, c *content) (uint32, error) {
	if c.number != format.Zero {
		return c.number, nil
	}
	if err := c.wait(ctx); err != nil {
		return 0, err
	}
	chunk := c.chunk
	if c.known {
		chunk.Pack = p.packs.known(c.pack)
		p.reused++
	} else {
		slot, off, err := p.packs.add(ctx, c.stored)
		if err != nil {
			return 0, err
		}
		chunk = format.Chunk{Sum: c.sum, Size: uint32(c.size), Pack: slot, Offset: off, Stored: uint32(len(c.stored)), Codec: c.codec}
		p.buffers.put(c.stored)
		c.stored = nil
		p.newChunks++
		p.told(int64(chunk.Stored))
	}
	c.number = uint32(len(p.chunks))
	p.chunks = append(p.chunks, chunk)
	p.stored += int64(chunk.Stored)
	return c.number, nil
}

// file places a large file behind all before it, unless one of the same chunks is there already.
func (p *placer) file(ctx context.Context, f *file) error {
	a := newArea(f.node.Size, p.alg)
	for {
		select {
		case piece, ok := <-f.pieces:
			if !ok {
				return p.finish(f, a)
			}
			if piece.content == nil {
				a.zeros(piece.size)
				continue
			}
			number, err := p.chunk(ctx, piece.content)
			if err != nil {
				return err
			}
			a.data(format.Extent{Size: piece.size, Chunk: number})
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *placer) finish(f *file, a *area) error {
	key := p.alg.DigestOf(a.recipe)
	at := p.larges[key]
	if at == nil {
		at = &place{extents: a.runs}
		for i := range at.extents {
			at.extents[i].Device += p.device
		}
		p.larges[key] = at
		if err := p.extend(a.extents...); err != nil {
			return err
		}
	}
	p.placed = append(p.placed, placed{f.node, at})
	return nil
}

// area is the room of one large file, counted from the file's own beginning on the device.
type area struct {
	size   int64 // of the file
	unit   int64 // holes of the file begin and end at multiples of it
	off    int64 // in the file
	device int64
	inRun  bool

	runs    []erofs.Extent
	extents []format.Extent
	recipe  hash.Hash // of the size and of what the file is made of
}

// maxUnits bounds the entries that a file with holes takes in the metadata. What is left of a hole is zeros on the device, which are
// stored nowhere either.
const maxUnits = 4096

func newArea(size int64, alg format.Algorithm) *area {
	a := &area{size: size, unit: minZeros, recipe: alg.Hash()}
	for size/a.unit > maxUnits {
		a.unit *= 2
	}
	a.note(size, 0)
	return a
}

func (a *area) note(size int64, chunk uint32) {
	var b [12]byte
	binary.LittleEndian.PutUint64(b[:], uint64(size))
	binary.LittleEndian.PutUint32(b[8:], chunk)
	a.recipe.Write(b[:])
}

func (a *area) data(e format.Extent) {
	a.note(e.Size, e.Chunk)
	a.extend(e)
}

func (a *area) zeros(size int64) {
	a.note(size, format.Zero)
	end := a.off + size
	from, to := (a.off+a.unit-1)&^(a.unit-1), end&^(a.unit-1)
	if end >= a.size {
		to = end
	}
	if from >= to {
		a.extend(format.Extent{Size: size, Chunk: format.Zero})
		return
	}
	if from > a.off {
		a.extend(format.Extent{Size: from - a.off, Chunk: format.Zero})
	}
	a.off, a.inRun = to, false
	if end > to {
		a.extend(format.Extent{Size: end - to, Chunk: format.Zero})
	}
}

// extend adds to the run of the file that is open, or opens one.
func (a *area) extend(e format.Extent) {
	if !a.inRun {
		a.runs = append(a.runs, erofs.Extent{Offset: a.off, Device: a.device})
		a.inRun = true
	}
	run := &a.runs[len(a.runs)-1]
	a.off += e.Size
	a.device += e.Size
	run.Size = min(a.off, a.size) - run.Offset
	a.extents = appendExtent(a.extents, e)
}
