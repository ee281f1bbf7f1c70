package erofs

import "hash/crc32"

// What the structures on disk look like: the kernel's fs/erofs/erofs_fs.h. All numbers are little endian.
const (
	blockBits = 12

	superOffset = 1024 // of the superblock in block 0
	superSize   = 128
	superMagic  = 0xe0f5e1e2

	slotOffset = superOffset + superSize // of the one slot of the device table; in the superblock in units of slotSize
	slotSize   = 128

	inodeSlot    = 32 // a nid counts these from meta_blkaddr on
	compactSize  = 32
	extendedSize = 64

	direntSize = 12
	maxName    = 255
	maxTarget  = 4095 // the kernel reads a target into one page, with a NUL

	nullBlock  = 1<<32 - 1 // the address of a chunk that is a hole
	indexSize  = 8         // of a chunk index
	addrSize   = 4         // of an entry of the older block map
	maxBits    = 31        // the largest chunk, in block bits: 8 TiB
	blockLimit = 1<<32 - 1 // block addresses are below it
)

// Offsets in the superblock.
const (
	sbMagic     = 0
	sbChecksum  = 4
	sbCompat    = 8
	sbBlockBits = 12
	sbExtSlots  = 13
	sbRootNid   = 14
	sbInodes    = 16
	sbBuildTime = 24
	sbBuildNsec = 32
	sbBlocks    = 36
	sbMeta      = 40
	sbXattr     = 44
	sbUUID      = 48
	sbIncompat  = 80
	sbDevices   = 86
	sbDevSlot   = 88
	sbDirBits   = 90
)

// Offsets in a slot of the device table.
const (
	slotBlocks = 64
	slotMapped = 68
)

// Feature bits. A reader may pass over the compatible ones.
const (
	compatChecksum = 1 << 0
	compatMtime    = 1 << 1 // the inode's time is mtime and not ctime

	incompatPadding = 1 << 0 // of compressed data; says nothing about the rest, and mkfs.erofs sets it anyway
	incompatChunked = 1 << 2
	incompatDevices = 1 << 3
)

// Offsets in an inode, where compact and extended ones agree.
const (
	inFormat = 0
	inXattrs = 2
	inMode   = 4
	inSize   = 8
	inUnion  = 16 // block address, device number, or chunk format
	inIno    = 20 // for stat(2) with 32 bits

	compactLinks = 6
	compactUID   = 24
	compactGID   = 26

	extUID   = 24
	extGID   = 28
	extMtime = 32
	extNsec  = 40
	extLinks = 44
)

// Layouts of an inode's data, and the bits of i_format.
const (
	layoutPlain  = 0
	layoutInline = 2
	layoutChunks = 4

	formatExtended = 1
	layoutShift    = 1
	layoutMask     = 7
)

// Bits of the chunk format: the size in bits above the block's, and that entries are chunk indexes.
const (
	chunkBitsMask = 0x1f
	chunkIndexes  = 0x20
)

// In front of an inode's extended attributes: the count of shared ones, whose numbers follow the header.
const (
	xattrHeader      = 12
	xattrSharedCount = 4
	xattrEntry       = 4
	xattrAlign       = 4
	maxXattrInline   = xattrHeader + (1<<16-2)*xattrAlign // what i_xattr_icount can say
	maxXattrs        = 1 << 20                            // bytes of one inode's attributes, shared ones included; a bound of ours
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of block 0 from the superblock on, whose own field must be zero. Linux's crc32c does not invert the result.
func checksum(b []byte) uint32 { return ^crc32.Checksum(b, castagnoli) }

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

func blocks(n int64) int64 { return (n + BlockSize - 1) / BlockSize }
