package erofs

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// inode writes an inode and what stands behind it.
func (w *writer) inode(at *placed) {
	w.pad(at.off)
	w.write(w.encode(at))
	w.write(w.shared.body(sorted(at.node.Xattrs)))
	switch {
	case at.layout == layoutChunks:
		w.pad(roundUp(w.off, indexSize))
		w.indexes(at)
	case at.tail == 0:
	case isDir(at.node.Mode):
		w.dirents(at, func(i int64, block []byte) {
			if i == at.size/BlockSize {
				w.write(block)
			}
		})
	default:
		w.write(content(at.node))
	}
}

// encode is the inode itself, always of the extended kind: the compact one has no time of its own.
func (w *writer) encode(at *placed) []byte {
	w.code = [extendedSize]byte{}
	b, le, n := w.code[:], binary.LittleEndian, at.node
	le.PutUint16(b[inFormat:], formatExtended|uint16(at.layout)<<layoutShift)
	if at.xattrs > 0 {
		le.PutUint16(b[inXattrs:], uint16((at.xattrs-xattrHeader)/xattrAlign+1))
	}
	le.PutUint16(b[inMode:], uint16(n.Mode))
	le.PutUint64(b[inSize:], uint64(at.size))
	le.PutUint32(b[inUnion:], w.union(at))
	le.PutUint32(b[inIno:], uint32(at.off/inodeSlot))
	le.PutUint32(b[extUID:], n.UID)
	le.PutUint32(b[extGID:], n.GID)
	le.PutUint64(b[extMtime:], uint64(n.ModTime.Unix()))
	le.PutUint32(b[extNsec:], uint32(n.ModTime.Nanosecond()))
	le.PutUint32(b[extLinks:], at.links)
	return b
}

// union is the field whose meaning depends on type and layout.
func (w *writer) union(at *placed) uint32 {
	switch n := at.node; {
	case isDevice(n.Mode):
		rdev, _ := encodeDev(n.Rdev)
		return rdev
	case at.layout == layoutChunks:
		return chunkIndexes | uint32(at.chunk-blockBits)
	case isReg(n.Mode) && n.Data == nil && n.Size > 0:
		_, block := w.address(n.Extents[0].Device)
		return block
	}
	return at.block
}

// address is where a place on the data device is.
func (w *writer) address(device int64) (id uint16, block uint32) {
	if w.o.SameDevice {
		return 0, uint32((w.size + device) / BlockSize)
	}
	return 1, uint32(device / BlockSize)
}

// indexes maps a file's chunks.
func (w *writer) indexes(at *placed) {
	extents := at.node.Extents
	var b [indexSize]byte
	for off := int64(0); off < at.size; off += 1 << at.chunk {
		for len(extents) > 0 && off >= extents[0].Offset+extents[0].Size {
			extents = extents[1:]
		}
		id, block := uint16(0), uint32(nullBlock)
		if len(extents) > 0 && off >= extents[0].Offset {
			id, block = w.address(extents[0].Device + off - extents[0].Offset)
		}
		binary.LittleEndian.PutUint16(b[2:], id)
		binary.LittleEndian.PutUint32(b[4:], block)
		w.write(b[:])
	}
}

// wholeBlocks writes the content that has no room behind the inode.
func (w *writer) wholeBlocks(at *placed) {
	n := at.wholeBlocks()
	switch {
	case n == 0:
		return
	case isDir(at.node.Mode):
		w.dirents(at, func(i int64, block []byte) {
			if i < n {
				w.write(block)
				w.pad(roundUp(w.off, BlockSize))
			}
		})
	default:
		w.write(content(at.node))
	}
	w.pad(roundUp(w.off, BlockSize))
}

func content(n *Node) []byte {
	if isLink(n.Mode) {
		return []byte(n.Target)
	}
	return n.Data
}

// dirents gives emit the blocks of a directory, unpadded.
func (w *writer) dirents(at *placed, emit func(i int64, block []byte)) {
	var list []dirent
	var block []byte
	used, i := 0, int64(0)
	flush := func() {
		block = appendDirents(block[:0], list)
		emit(i, block)
		list, used, i = list[:0], 0, i+1
	}
	for name, node := range names(at.node) {
		need := direntSize + len(name)
		if used+need > BlockSize {
			flush()
		}
		list = append(list, w.dirent(at, name, node))
		used += need
	}
	flush()
}

func (w *writer) dirent(dir *placed, name string, node *Node) dirent {
	if node == nil {
		if name == ".." {
			dir = &w.nodes[dir.parent]
		}
		return dirent{name, uint64(dir.off / inodeSlot), fileType(unix.S_IFDIR)}
	}
	return dirent{name, uint64(w.nodes[w.number[node]].off / inodeSlot), fileType(node.Mode)}
}
