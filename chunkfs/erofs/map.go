package erofs

import (
	"encoding/binary"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Run is a piece of a regular file, from Offset on, Size bytes long and at most to the end of the file.
type Run struct {
	Offset int64  // in the file
	Size   int64  // bytes; 0 behind the end of the file
	Device int64  // where it begins on the data device, or in the image's own file when it has no device; -1: a hole, or Data
	Data   []byte // its Size bytes when they are in the metadata, else nil
}

// Map says where the content of a regular file at off is. A run is as long as can be found out with one read of the metadata; behind the
// end its Size is 0. What lies outside of the device is Corrupt.
func (im *Image) Map(nid uint64, off int64) (Run, error) {
	n, err := im.inode(nid)
	if err != nil {
		return Run{}, err
	}
	return im.run(&n, off)
}

func (im *Image) run(n *inode, off int64) (Run, error) {
	if !isReg(n.Mode) || off < 0 {
		return Run{}, fault.New(fault.Invalid, "look for the content at %d of inode %d of mode %#o", off, n.Nid, n.Mode)
	}
	if off >= n.Size {
		return Run{Offset: off, Device: -1}, nil
	}
	if n.layout == layoutChunks {
		return im.chunkRun(n, off)
	}
	at, err := n.place(off)
	if err != nil {
		return Run{}, err
	}
	full := n.Size
	if n.layout == layoutInline {
		full -= n.Size % BlockSize
	}
	if off >= full {
		return im.inMetadata(Run{Offset: off, Size: n.Size - off}, at)
	}
	return im.locate(Run{Offset: off, Size: full - off}, 0, at)
}

// locate finishes a run that is not a hole: at is an address of device id, 0 being the image itself.
func (im *Image) locate(r Run, id uint16, at int64) (Run, error) {
	r.Device = at
	limit := im.device
	switch {
	case id == 0 && im.devices && im.mapped > 0 && at >= im.mapped:
		r.Device -= im.mapped
	case id == 0 && im.devices:
		r.Size = min(r.Size, BlockSize-r.Offset%BlockSize)
		return im.inMetadata(r, at)
	case id == 0:
		limit = im.size
	case id != 1 || !im.devices:
		return Run{}, fault.New(fault.Corrupt, "the EROFS image has content on a device %d, which it does not have", id)
	}
	if r.Device > limit || r.Size > limit-r.Device {
		return Run{}, fault.New(fault.Corrupt, "the EROFS image has content of %d bytes at %d, and the device has %d", r.Size, r.Device, limit)
	}
	return r, nil
}

// inMetadata reads a run of at most a block.
func (im *Image) inMetadata(r Run, at int64) (Run, error) {
	r.Device, r.Data = -1, make([]byte, r.Size)
	return r, im.read(at, r.Data)
}

// chunks is what an inode's chunks look like on disk.
func (n *inode) chunks() (bits int, entry, table int64) {
	bits, entry = blockBits+int(n.union&chunkBitsMask), addrSize
	if n.union&chunkIndexes != 0 {
		entry = indexSize
	}
	return bits, entry, roundUp(n.body+n.xattrs, entry)
}

// chunk is one decoded entry.
type chunk struct {
	id    uint16
	block uint32
}

func decodeChunk(b []byte) chunk {
	if len(b) == addrSize {
		return chunk{0, binary.LittleEndian.Uint32(b)}
	}
	return chunk{binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])}
}

// follows reports whether c, i chunks of so many blocks behind first, continues it.
func (c chunk) follows(first chunk, i int64, blocks int64) bool {
	if first.block == nullBlock || c.block == nullBlock {
		return c.block == first.block
	}
	return c.id == first.id && int64(c.block) == int64(first.block)+i*blocks
}

// chunkRun reads the entry of the chunk at off and those behind it, as long as they continue it.
func (im *Image) chunkRun(n *inode, off int64) (Run, error) {
	bits, entry, table := n.chunks()
	at := off >> bits
	count := min((n.Size-1)>>bits-at+1, BlockSize/entry)
	b := buffers.Get().(*[BlockSize]byte)
	defer buffers.Put(b)
	if err := im.read(table+at*entry, b[:count*entry]); err != nil {
		return Run{}, err
	}
	first, i := decodeChunk(b[:entry]), int64(1)
	for i < count && decodeChunk(b[i*entry:][:entry]).follows(first, i, 1<<(bits-blockBits)) {
		i++
	}
	run := Run{Offset: off, Device: -1, Size: n.Size - off}
	if at+i <= (n.Size-1)>>bits {
		run.Size = (at+i)<<bits - off
	}
	if first.block == nullBlock {
		return run, nil
	}
	return im.locate(run, first.id, int64(first.block)*BlockSize+off-at<<bits)
}
