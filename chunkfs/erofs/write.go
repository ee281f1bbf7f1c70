package erofs

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// BlockSize is that of every image written here, and the only one that is read.
const BlockSize = 4096

// Options are of an image that is written.
type Options struct {
	DeviceSize int64    // of the data device, a multiple of BlockSize; every Extent lies in it
	UUID       [16]byte // of the file system
	// SameDevice makes an image without a data device: the data comes in the same file, behind the metadata that Write has written.
	// An Extent's Device still counts from the data's beginning.
	SameDevice bool
}

// Write writes the metadata of the tree and gives its size, a multiple of BlockSize. The same tree and options give the same bytes. A
// tree that cannot be written, such as one with names out of order, with extents that need more than MaxChunks entries or with
// an extended attribute that EROFS has no room for (XattrSupported), is Invalid or Unsupported, and the error names the path; nothing is
// written then. The tree is gone through several times and must not change meanwhile.
func Write(w io.Writer, root *Node, o Options) (int64, error) {
	p, err := newPlan(root, o)
	if err != nil {
		return 0, err
	}
	out := &writer{plan: p, out: bufio.NewWriterSize(w, 256<<10)}
	out.superblock()
	for _, i := range p.inOrder() {
		out.inode(&p.nodes[i])
	}
	out.pad(p.sharedAt)
	for _, x := range p.shared.list {
		out.write(appendXattr(nil, x))
	}
	out.pad(p.blocksAt)
	for i := range p.nodes {
		out.wholeBlocks(&p.nodes[i])
	}
	if err := out.out.Flush(); err != nil {
		return 0, fmt.Errorf("write an EROFS image: %w", err)
	}
	return p.size, nil
}

// writer puts a plan into a stream, in order.
type writer struct {
	*plan
	out  *bufio.Writer // keeps the first error
	off  int64
	head []byte // block 0 until it is whole, since the checksum in front is of all of it
	zero [BlockSize]byte
	code [extendedSize]byte // an inode that is being encoded
}

func (w *writer) write(b []byte) {
	w.off += int64(len(b))
	if n := min(BlockSize-len(w.head), len(b)); n > 0 {
		w.head = append(w.head, b[:n]...)
		b = b[n:]
		if len(w.head) == BlockSize {
			binary.LittleEndian.PutUint32(w.head[superOffset+sbChecksum:], checksum(w.head[superOffset:]))
			w.out.Write(w.head)
		}
	}
	w.out.Write(b)
}

func (w *writer) pad(to int64) {
	for w.off < to {
		w.write(w.zero[:min(to-w.off, BlockSize)])
	}
}

// superblock writes the superblock and the device table.
func (w *writer) superblock() {
	var b [slotOffset + slotSize]byte
	le, sb := binary.LittleEndian, b[superOffset:]
	total := w.size / BlockSize
	incompat := uint32(0)
	if w.chunked {
		incompat |= incompatChunked
	}
	if w.o.SameDevice {
		total += w.o.DeviceSize / BlockSize
	} else {
		incompat |= incompatDevices
		le.PutUint16(sb[sbDevices:], 1)
		le.PutUint16(sb[sbDevSlot:], slotOffset/slotSize)
		le.PutUint32(b[slotOffset+slotBlocks:], uint32(w.o.DeviceSize/BlockSize))
		le.PutUint32(b[slotOffset+slotMapped:], uint32(w.size/BlockSize))
	}
	le.PutUint32(sb[sbMagic:], superMagic)
	le.PutUint32(sb[sbCompat:], compatChecksum|compatMtime)
	sb[sbBlockBits] = blockBits
	le.PutUint16(sb[sbRootNid:], uint16(w.nodes[0].off/inodeSlot))
	le.PutUint64(sb[sbInodes:], uint64(len(w.nodes)))
	le.PutUint32(sb[sbBlocks:], uint32(total))
	le.PutUint32(sb[sbXattr:], uint32(w.sharedAt/BlockSize))
	copy(sb[sbUUID:], w.o.UUID[:])
	le.PutUint32(sb[sbIncompat:], incompat)
	w.write(b[:])
}
