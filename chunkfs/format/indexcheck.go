package format

import (
	"github.com/windlass-hpc/windlass/internal/fault"
)

// check says whether the index is one that an encoded index can be. It is the same for what is written and what was read, so that nothing
// can be written that is not read. The errors have no kind of their own to count: the callers know whose fault it is.
func (x *Index) check() error {
	switch {
	case !x.Algorithm.Valid():
		return fault.New(fault.Invalid, "no digest algorithm")
	case x.DeviceSize < 0 || x.DeviceSize > MaxDeviceSize || x.DeviceSize%BlockSize != 0:
		return fault.New(fault.Invalid, "data device of %d bytes", x.DeviceSize)
	case len(x.Packs) > MaxPacks || len(x.Extents) > MaxExtents || len(x.Chunks) > len(x.Extents):
		return fault.New(fault.Invalid, "%d packs, %d chunks, %d extents", len(x.Packs), len(x.Chunks), len(x.Extents))
	}
	if err := x.checkPacks(); err != nil {
		return err
	}
	if err := x.checkChunks(); err != nil {
		return err
	}
	return x.checkExtents()
}

func (x *Index) checkPacks() error {
	for i, p := range x.Packs {
		if p.Size < 1 || p.Size > MaxPack {
			return fault.New(fault.Invalid, "pack %d of %d bytes", i, p.Size)
		}
	}
	return nil
}

func (x *Index) checkChunks() error {
	packs := 0 // named so far
	for i, c := range x.Chunks {
		if int(c.Pack) > packs || int(c.Pack) >= len(x.Packs) {
			return fault.New(fault.Invalid, "chunk %d names pack %d out of turn", i, c.Pack)
		}
		if int(c.Pack) == packs {
			packs++
		}
		if err := c.check(x.Packs[c.Pack].Size); err != nil {
			return fault.New(fault.Invalid, "chunk %d: %w", i, err)
		}
	}
	if packs != len(x.Packs) {
		return fault.New(fault.Invalid, "%d packs that no chunk names", len(x.Packs)-packs)
	}
	return nil
}

func (c Chunk) check(pack int64) error {
	switch {
	case !c.Codec.Valid():
		return fault.New(fault.Invalid, "codec %d is not known", uint8(c.Codec))
	case c.Size < 1 || c.Size > MaxChunk:
		return fault.New(fault.Invalid, "%d bytes, not 1 to %d", c.Size, MaxChunk)
	case c.Stored < 1 || c.Stored > c.Size || (c.Stored == c.Size) != (c.Codec == None):
		return fault.New(fault.Invalid, "%d bytes stored by codec %v for %d", c.Stored, c.Codec, c.Size)
	case int64(c.Offset)+int64(c.Stored) > pack:
		return fault.New(fault.Invalid, "ends at %d in a pack of %d bytes", int64(c.Offset)+int64(c.Stored), pack)
	}
	return nil
}

func (x *Index) checkExtents() error {
	chunks, hole := 0, false
	var at int64
	for i, e := range x.Extents {
		if e.Size < 1 || e.Size > x.DeviceSize-at {
			return fault.New(fault.Invalid, "extent %d of %d bytes at %d on a device of %d", i, e.Size, at, x.DeviceSize)
		}
		at += e.Size
		if e.Chunk == Zero {
			if hole {
				return fault.New(fault.Invalid, "extent %d is a hole beside a hole", i)
			}
			hole = true
			continue
		}
		hole = false
		if int(e.Chunk) > chunks || int(e.Chunk) >= len(x.Chunks) {
			return fault.New(fault.Invalid, "extent %d names chunk %d out of turn", i, e.Chunk)
		}
		if int(e.Chunk) == chunks {
			chunks++
		}
		if e.Size != int64(x.Chunks[e.Chunk].Size) {
			return fault.New(fault.Invalid, "extent %d of %d bytes is of a chunk of %d", i, e.Size, x.Chunks[e.Chunk].Size)
		}
	}
	if chunks != len(x.Chunks) {
		return fault.New(fault.Invalid, "%d chunks that no extent names", len(x.Chunks)-chunks)
	}
	if at != x.DeviceSize {
		return fault.New(fault.Invalid, "extents of %d bytes on a device of %d", at, x.DeviceSize)
	}
	return nil
}
