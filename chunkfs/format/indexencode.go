package format

import (
	"encoding/binary"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// indexMagic begins an encoded index; the byte after it is the version.
const indexMagic = "WLINDEX"

// Encode gives the index as bytes, in columns, so that what repeats lies together and compresses. An index that DecodeIndex would refuse
// is an error of kind Invalid.
func (x *Index) Encode() ([]byte, error) {
	if err := x.check(); err != nil {
		return nil, fault.New(fault.Invalid, "encoding an index: %w", err)
	}
	b := make([]byte, 0, 64+len(x.Packs)*36+len(x.Chunks)*40+len(x.Extents)*2)
	b = append(b, indexMagic...)
	b = append(b, Version, byte(x.Algorithm))
	b = binary.AppendUvarint(b, uint64(x.DeviceSize/BlockSize))
	b = binary.AppendUvarint(b, uint64(len(x.Packs)))
	b = binary.AppendUvarint(b, uint64(len(x.Chunks)))
	b = binary.AppendUvarint(b, uint64(len(x.Extents)))
	b = x.appendPacks(b)
	b = x.appendChunks(b)
	b = x.appendExtents(b)
	if len(b) > MaxIndex {
		return nil, fault.New(fault.Invalid, "encoding an index: %d bytes, more than %d", len(b), MaxIndex)
	}
	return b, nil
}

func (x *Index) appendPacks(b []byte) []byte {
	for _, p := range x.Packs {
		b = append(b, p.Sum[:]...)
	}
	for _, p := range x.Packs {
		b = binary.AppendUvarint(b, uint64(p.Size))
	}
	return b
}

// appendChunks writes the place of a chunk as the difference from where the chunk before it in the same pack ended: a build lays them one
// after the other, so nearly all of these are 0.
func (x *Index) appendChunks(b []byte) []byte {
	for _, c := range x.Chunks {
		b = append(b, c.Sum[:]...)
	}
	for _, c := range x.Chunks {
		b = append(b, byte(c.Codec))
	}
	for _, c := range x.Chunks {
		b = binary.AppendUvarint(b, uint64(c.Size))
	}
	for _, c := range x.Chunks {
		if c.Codec != None {
			b = binary.AppendUvarint(b, uint64(c.Stored))
		}
	}
	last := int64(0)
	for _, c := range x.Chunks {
		b = binary.AppendVarint(b, int64(c.Pack)-last)
		last = int64(c.Pack)
	}
	ends := make([]int64, len(x.Packs))
	for _, c := range x.Chunks {
		b = binary.AppendVarint(b, int64(c.Offset)-ends[c.Pack])
		ends[c.Pack] = int64(c.Offset) + int64(c.Stored)
	}
	return b
}

// appendExtents writes 0 and a size for a hole, 1 for the first chunk not named before, and 2 plus how far back from that one for a chunk
// named before.
func (x *Index) appendExtents(b []byte) []byte {
	next := uint64(0)
	for _, e := range x.Extents {
		switch {
		case e.Chunk == Zero:
			b = append(b, 0)
			b = binary.AppendUvarint(b, uint64(e.Size))
		case uint64(e.Chunk) == next:
			b = append(b, 1)
			next++
		default:
			b = binary.AppendUvarint(b, 1+next-uint64(e.Chunk))
		}
	}
	return b
}
