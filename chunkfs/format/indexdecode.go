package format

import (
	"bytes"
	"encoding/binary"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// DecodeIndex takes what Encode gives and nothing else. All that a reader relies on has been checked: digests are there, chunks lie inside
// their packs, extents cover the device without gap. The errors are of kind Corrupt, and of another version Unsupported.
func DecodeIndex(b []byte) (*Index, error) {
	if len(b) > MaxIndex {
		return nil, fault.New(fault.Corrupt, "index has %d bytes, more than %d", len(b), MaxIndex)
	}
	rest, found := bytes.CutPrefix(b, []byte(indexMagic))
	if !found || len(rest) < 2 {
		return nil, fault.New(fault.Corrupt, "index does not begin as one")
	}
	if rest[0] != Version {
		return nil, fault.New(fault.Unsupported, "index is of version %d of the format, not %d", rest[0], Version)
	}
	r := &reader{rest: rest[2:]}
	x := &Index{Algorithm: Algorithm(rest[1])}
	r.index(x)
	if r.err != nil {
		return nil, fault.New(fault.Corrupt, "index: %w", r.err)
	}
	if err := x.check(); err != nil {
		return nil, fault.New(fault.Corrupt, "index: %w", err)
	}
	return x, nil
}

// reader takes an index apart. After its first error every answer is zero, so that the error is looked at once.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fault.New(fault.Corrupt, format, args...)
	}
	r.rest = nil
}

// index reads all. Nothing is allocated for more packs, chunks or extents than the bytes that are left can hold.
func (r *reader) index(x *Index) {
	x.DeviceSize = int64(r.uvarint(MaxDeviceSize/BlockSize)) * BlockSize
	packs := r.count(MaxPacks, 33)
	chunks := r.count(MaxExtents, 36)
	extents := r.count(MaxExtents, 1)
	if r.err == nil && (packs > chunks || chunks > extents || packs*33+chunks*36+extents > len(r.rest)) {
		r.fail("%d packs, %d chunks and %d extents in %d bytes", packs, chunks, extents, len(r.rest))
	}
	if r.err != nil {
		return
	}
	x.Packs = make([]Pack, packs)
	x.Chunks = make([]Chunk, chunks)
	x.Extents = make([]Extent, extents)
	r.packs(x)
	r.chunks(x)
	r.places(x)
	r.extents(x)
	if r.err == nil && len(r.rest) > 0 {
		r.fail("%d bytes follow its end", len(r.rest))
	}
}

func (r *reader) packs(x *Index) {
	for i := range x.Packs {
		r.sum(&x.Packs[i].Sum)
	}
	for i := range x.Packs {
		x.Packs[i].Size = int64(r.uvarint(MaxPack))
	}
}

func (r *reader) chunks(x *Index) {
	for i := range x.Chunks {
		r.sum(&x.Chunks[i].Sum)
	}
	for i := range x.Chunks {
		if b := r.take(1); b != nil {
			x.Chunks[i].Codec = Codec(b[0])
		}
	}
	for i := range x.Chunks {
		x.Chunks[i].Size = uint32(r.uvarint(MaxChunk))
	}
	for i := range x.Chunks {
		c := &x.Chunks[i]
		c.Stored = c.Size
		if c.Codec != None {
			c.Stored = uint32(r.uvarint(MaxChunk))
		}
	}
}

func (r *reader) places(x *Index) {
	last := int64(0)
	for i := range x.Chunks {
		last += r.varint(MaxPacks)
		if last < 0 || last >= int64(len(x.Packs)) {
			r.fail("chunk %d names pack %d of %d", i, last, len(x.Packs))
			return
		}
		x.Chunks[i].Pack = uint32(last)
	}
	ends := make([]int64, len(x.Packs))
	for i := range x.Chunks {
		c := &x.Chunks[i]
		off := ends[c.Pack] + r.varint(2*MaxPack)
		if off < 0 || off > MaxPack {
			r.fail("chunk %d begins at %d in its pack", i, off)
			return
		}
		c.Offset = uint32(off)
		ends[c.Pack] = off + int64(c.Stored)
	}
}

func (r *reader) extents(x *Index) {
	next := uint64(0)
	for i := range x.Extents {
		e := &x.Extents[i]
		switch word := r.uvarint(MaxExtents + 1); {
		case word == 0:
			*e = Extent{Size: int64(r.uvarint(MaxDeviceSize)), Chunk: Zero}
			continue
		case word > next+1:
			r.fail("extent %d names a chunk before the first", i)
		case word == 1 && next == uint64(len(x.Chunks)):
			r.fail("extent %d names a chunk behind the last", i)
		case word == 1:
			e.Chunk = uint32(next)
			next++
		default:
			e.Chunk = uint32(next + 1 - word)
		}
		if r.err != nil {
			return
		}
		e.Size = int64(x.Chunks[e.Chunk].Size)
	}
}

func (r *reader) take(n int) []byte {
	if len(r.rest) < n {
		r.fail("it ends early")
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) sum(s *Sum) { copy(s[:], r.take(len(s))) }

// count reads how many of something follow, each of which takes some bytes at least.
func (r *reader) count(most, bytesEach int) int {
	n := int(r.uvarint(uint64(most)))
	if r.err == nil && n > len(r.rest)/bytesEach {
		r.fail("%d of %d bytes each in %d bytes", n, bytesEach, len(r.rest))
		return 0
	}
	return n
}

// uvarint reads a number up to most, in the shortest way to write it, so that an index has one encoding.
func (r *reader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || n > 1 && r.rest[n-1] == 0 {
		r.fail("a number is not one")
		return 0
	}
	if v > most {
		r.fail("a number is %d, more than %d", v, most)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// varint is uvarint for numbers from -most to most.
func (r *reader) varint(most int64) int64 {
	u := r.uvarint(uint64(2*most) + 1)
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}
