package erofs

import (
	"encoding/binary"
	"io"
	"math"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Image is an EROFS image that is read. It holds no state of its callers: every method may be called from many goroutines at once.
type Image struct {
	r       io.ReaderAt
	size    int64
	meta    int64 // byte offset that nids count from
	xattr   int64 // byte offset that numbers of shared attributes count from
	root    uint64
	inos    int64
	built   time.Time // of compact inodes
	devices bool      // there is a data device
	device  int64     // its bytes
	mapped  int64     // byte address at which it comes again in the addresses of the image itself; 0: nowhere
}

// Open reads the superblock. What is damaged is Corrupt; features that are not those of a chunkfs image, such as compression, are
// Unsupported. Nothing else is looked at before it is asked for, and r must stay readable until then.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	if size < BlockSize {
		return nil, fault.New(fault.Corrupt, "an EROFS image has at least %d bytes, and this one %d", BlockSize, size)
	}
	im := &Image{r: r, size: size}
	b := make([]byte, BlockSize)
	if err := im.read(0, b); err != nil {
		return nil, err
	}
	le, sb := binary.LittleEndian, b[superOffset:]
	if err := checkSuper(sb); err != nil {
		return nil, err
	}
	im.meta = int64(le.Uint32(sb[sbMeta:])) * BlockSize
	im.xattr = int64(le.Uint32(sb[sbXattr:])) * BlockSize
	im.root = uint64(le.Uint16(sb[sbRootNid:]))
	im.inos = int64(min(le.Uint64(sb[sbInodes:]), math.MaxInt64))
	im.built = time.Unix(int64(le.Uint64(sb[sbBuildTime:])), int64(le.Uint32(sb[sbBuildNsec:]))).UTC()
	if err := im.readDevice(sb); err != nil {
		return nil, err
	}
	root, err := im.inode(im.root)
	if err == nil && !isDir(root.Mode) {
		err = fault.New(fault.Corrupt, "the root of the EROFS image is not a directory")
	}
	return im, err
}

// checkSuper looks at all of a superblock that says whether we can read the rest.
func checkSuper(sb []byte) error {
	le := binary.LittleEndian
	if magic := le.Uint32(sb[sbMagic:]); magic != superMagic {
		return fault.New(fault.Corrupt, "not an EROFS image: its magic number is %#x", magic)
	}
	if unknown := le.Uint32(sb[sbIncompat:]) &^ (incompatPadding | incompatChunked | incompatDevices); unknown != 0 {
		return fault.New(fault.Unsupported, "the EROFS image has features %#x, such as compression, that are not read here", unknown)
	}
	if sb[sbBlockBits] != blockBits || sb[sbDirBits] != 0 {
		return fault.New(fault.Unsupported, "the EROFS image has blocks of 1<<%d bytes, and of directories 1<<%d; only 4096 is read here", sb[sbBlockBits], sb[sbBlockBits]+sb[sbDirBits])
	}
	if le.Uint32(sb[sbCompat:])&compatChecksum == 0 {
		return nil
	}
	want := le.Uint32(sb[sbChecksum:])
	clear(sb[sbChecksum : sbChecksum+4])
	if got := checksum(sb); got != want {
		return fault.New(fault.Corrupt, "the first block of the EROFS image has the checksum %08x, and %08x is written in it", got, want)
	}
	return nil
}

// readDevice reads the device table.
func (im *Image) readDevice(sb []byte) error {
	le := binary.LittleEndian
	if le.Uint32(sb[sbIncompat:])&incompatDevices == 0 {
		return nil
	}
	switch n := le.Uint16(sb[sbDevices:]); n {
	case 0:
		return nil
	case 1:
	default:
		return fault.New(fault.Unsupported, "the EROFS image has its data on %d devices; one is read here", n)
	}
	slot := make([]byte, slotSize)
	if err := im.read(int64(le.Uint16(sb[sbDevSlot:]))*slotSize, slot); err != nil {
		return err
	}
	im.devices = true
	im.device = int64(le.Uint32(slot[slotBlocks:])) * BlockSize
	im.mapped = int64(le.Uint32(slot[slotMapped:])) * BlockSize
	return nil
}

// Root is the nid of the root directory.
func (im *Image) Root() uint64 { return im.root }

// Inodes is how many the image says it has.
func (im *Image) Inodes() int64 { return im.inos }

// DeviceSize is that of the data device in bytes; of an image without one 0.
func (im *Image) DeviceSize() int64 { return im.device }

// Size is that of the image in bytes, as Open was told it.
func (im *Image) Size() int64 { return im.size }

// read fills b from an offset that may come from the image.
func (im *Image) read(off int64, b []byte) error {
	if off < 0 || int64(len(b)) > im.size || off > im.size-int64(len(b)) {
		return fault.New(fault.Corrupt, "the EROFS image points at %d bytes at %d, and has %d", len(b), off, im.size)
	}
	n, err := im.r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || err == io.EOF: //nolint:errorlint // io.ReaderAt promises the bare value
		return fault.New(fault.Corrupt, "the EROFS image is cut off at %d, %d bytes before its end", off+int64(n), im.size-off-int64(n))
	}
	return fault.New(fault.Internal, "read %d bytes at %d of the EROFS image: %w", len(b), off, err)
}

// buffers are blocks for reads that end within a call.
var buffers = sync.Pool{New: func() any { return new([BlockSize]byte) }}
