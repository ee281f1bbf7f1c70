package erofs

import (
	"math/bits"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// MaxChunks bounds the entries that map one file. EROFS maps a file in chunks of one size, each in one piece on the device, so that a file
// whose holes and pieces begin at multiples of 1/MaxChunks of its size, rounded up to a power of two and a block, can be written always.
const MaxChunks = 64 << 10

// usualBits bounds a chunk to 1 GiB where nothing asks for more: fsck.erofs reads a chunk at once.
const usualBits = 18

// chunkBits is the largest chunk, in bits, at whose boundaries every run begins and ends, but not larger than the file or, unless
// MaxChunks asks for it, than usual.
func chunkBits(size int64, runs []Extent) int {
	all := uint64(0)
	for _, r := range runs {
		all |= uint64(r.Offset)
		if r.Offset+r.Size < size {
			all |= uint64(r.Offset + r.Size)
		}
	}
	limit := min(bits.Len64(uint64(max(size-1, 0))), blockBits+usualBits)
	for (size-1)>>limit >= MaxChunks && limit < blockBits+maxBits {
		limit++
	}
	return max(min(bits.TrailingZeros64(all), limit), blockBits)
}

// checkExtents finds out whether a chunk based inode can map the extents, on a device of so many bytes.
func checkExtents(size int64, extents []Extent, device int64) error {
	end := int64(0)
	for i, e := range extents {
		switch {
		case e.Offset < end || e.Size <= 0 || e.Size > size-e.Offset:
			return fault.New(fault.Invalid, "extent %d (%d bytes at %d) overlaps another or lies outside of the file's %d bytes", i, e.Size, e.Offset, size)
		case e.Offset%BlockSize != 0 || e.Device%BlockSize != 0 || (e.Offset+e.Size)%BlockSize != 0 && e.Offset+e.Size != size:
			return fault.New(fault.Invalid, "extent %d (%d bytes at %d, on the device at %d) is not made of whole blocks of %d", i, e.Size, e.Offset, e.Device, BlockSize)
		case e.Device < 0 || e.Device > device || e.Size > device-e.Device || roundUp(e.Size, BlockSize) > device-e.Device:
			return fault.New(fault.Invalid, "extent %d (%d bytes, on the device at %d) lies outside of the device's %d bytes", i, e.Size, e.Device, device)
		}
		end = e.Offset + e.Size
	}
	if chunk := chunkBits(size, extents); (size-1)>>chunk >= MaxChunks {
		return fault.New(fault.Unsupported, "a file of %d bytes whose extents need chunks of %d bytes: more than %d of them", size, int64(1)<<chunk, MaxChunks)
	}
	return nil
}
