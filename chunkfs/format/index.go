package format

import (
	"slices"
	"sync"
)

// Limits that hold for every image; what goes beyond them is refused before memory is taken for it.
const (
	BlockSize     = 4096
	MaxChunk      = 4 << 20   // bytes of one chunk, plain
	MaxPack       = 256 << 20 // bytes of one pack
	MaxManifest   = 1 << 20   // bytes of a manifest
	MaxIndex      = 256 << 20 // bytes of an index, plain
	MaxMetadata   = 512 << 20 // bytes of the metadata, plain: some four million inodes; a reader holds it in memory while it is fetched
	MaxDeviceSize = 1 << 44   // 32 bits of 4 KiB blocks
	MaxPacks      = 1 << 20
	MaxExtents    = 1 << 24 // and so of chunks: every chunk is in an extent
)

// Pack is one blob that holds stored chunks one after the other.
type Pack struct {
	Sum  Sum
	Size int64
}

// Chunk is one piece of content and where it is stored.
type Chunk struct {
	Sum    Sum    // of the plain bytes
	Size   uint32 // plain
	Pack   uint32 // number in Index.Packs
	Offset uint32 // in the pack
	Stored uint32 // bytes in the pack
	Codec  Codec
}

// Zero as the chunk of an extent says that it is a hole: it reads as zeros and is stored nowhere.
const Zero = ^uint32(0)

// Extent is one run of the data device. Where it begins is where the one before it ends.
type Extent struct {
	Size  int64  // of a chunk's extent the chunk's size
	Chunk uint32 // number in Index.Chunks, or Zero
}

// Index maps the data device to chunks, and chunks to packs.
type Index struct {
	Algorithm  Algorithm
	DeviceSize int64    // a multiple of BlockSize; the sum of the extents
	Packs      []Pack   // in the order in which Chunks first name them
	Chunks     []Chunk  // each content once, in the order in which Extents first name them
	Extents    []Extent // in the order of the device; no two holes side by side

	once   sync.Once
	starts []int64
}

// Start says where extent i begins on the device; of len(Extents) it is the device's size. It may be called at the same time by many.
// The extents must not change after it.
func (x *Index) Start(i int) int64 {
	x.once.Do(x.begin)
	return x.starts[i]
}

// Find gives the number of the extent that holds off, and -1 when off is not on the device. It may be called at the same time by many.
// The extents must not change after it.
func (x *Index) Find(off int64) int {
	x.once.Do(x.begin)
	if off < 0 || off >= x.starts[len(x.Extents)] {
		return -1
	}
	i, found := slices.BinarySearch(x.starts, off)
	if !found {
		i--
	}
	return i
}

func (x *Index) begin() {
	x.starts = make([]int64, len(x.Extents)+1)
	var at int64
	for i, e := range x.Extents {
		x.starts[i] = at
		at += e.Size
	}
	x.starts[len(x.Extents)] = at
}
