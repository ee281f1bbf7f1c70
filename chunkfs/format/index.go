package format

// Codec is how a stored chunk or blob is compressed.
type Codec uint8

// The codecs.
const (
	None Codec = 0
	Zstd Codec = 1
	LZ4  Codec = 2 // block format
)

// Limits that hold for every image; what goes beyond them is refused before memory is taken for it.
const (
	BlockSize     = 4096
	MaxChunk      = 4 << 20   // bytes of one chunk, plain
	MaxPack       = 256 << 20 // bytes of one pack
	MaxManifest   = 1 << 20   // bytes of a manifest
	MaxIndex      = 256 << 20 // bytes of an index, plain
	MaxMetadata   = 2 << 30   // bytes of the metadata, plain
	MaxDeviceSize = 1 << 44   // 32 bits of 4 KiB blocks
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
	DeviceSize int64 // a multiple of BlockSize; the sum of the extents
	Packs      []Pack
	Chunks     []Chunk  // each content once
	Extents    []Extent // in the order of the device
}
