package erofs

import (
	"math"
	"math/bits"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// MaxChunks bounds the entries that map one file.
const MaxChunks = 64 << 10

// usualBits bounds a chunk to 1 GiB where nothing asks for more: fsck.erofs reads a chunk at once.
const usualBits = 18

// Align gives the runs of a regular file of size bytes that must lie on the device, each in one piece, when those of data have content
// that is not a hole. It takes data by Offset and Size, in order, at any byte, and gives runs whose Device is to be filled in and whose
// bytes outside of data are zeros. EROFS maps a file in chunks of one size, so holes smaller than a chunk become zeros; the chunk weighs
// these against the entries, of which a file has at most MaxChunks. A file without holes is one run; one of nothing else none.
func Align(size int64, data []Extent) []Extent {
	runs := roundOut(size, data, BlockSize)
	if len(runs) == 0 || len(runs) == 1 && runs[0].Offset == 0 && runs[0].Size == size {
		return runs
	}
	best, least := runs, int64(math.MaxInt64)
	for chunk := chunkBits(size, runs); chunk <= blockBits+maxBits; chunk++ {
		entries := (size-1)>>chunk + 1
		if entries > MaxChunks {
			continue
		}
		list := roundOut(size, runs, 1<<chunk)
		if cost := entries*indexSize*entryCost + total(list); cost < least {
			best, least = list, cost
		}
		if entries == 1 {
			break
		}
	}
	return best
}

// entryCost is how many bytes of zeros on the device, which are stored nowhere, weigh as much as one of metadata, which every mount needs.
const entryCost = 64

func total(runs []Extent) (n int64) {
	for _, r := range runs {
		n += r.Size
	}
	return n
}

// roundOut grows runs to multiples of unit, or to the end of the file, and makes those one that touch.
func roundOut(size int64, data []Extent, unit int64) []Extent {
	var runs []Extent
	for _, d := range data {
		start, end := d.Offset&^(unit-1), d.Offset+min(d.Size, size-d.Offset)
		if d.Offset < 0 || d.Size <= 0 || d.Offset >= size {
			continue
		}
		end = end + min(-end&(unit-1), size-end)
		if n := len(runs); n > 0 && runs[n-1].Offset+runs[n-1].Size >= start {
			runs[n-1].Size = max(end, runs[n-1].Offset+runs[n-1].Size) - runs[n-1].Offset
			continue
		}
		runs = append(runs, Extent{Offset: start, Size: end - start})
	}
	return runs
}

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
