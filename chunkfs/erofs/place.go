package erofs

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// place decides on layouts and offsets.
func (p *plan) place() error {
	room := space{next: slotOffset + slotSize}
	for i := range p.nodes {
		at := &p.nodes[i]
		at.xattrs = int32(len(p.shared.body(sorted(at.node.Xattrs))))
		if at.xattrs > maxXattrInline {
			return fault.New(fault.Unsupported, "write %s into an EROFS image: its extended attributes take %d bytes, and an inode has room for %d", p.path(uint32(i)), at.xattrs, maxXattrInline)
		}
		p.choose(at)
		at.off = room.take(at.length())
	}
	p.sharedAt = roundUp(room.next, BlockSize)
	p.blocksAt = roundUp(p.sharedAt+p.shared.size, BlockSize)
	p.size = p.blocksAt
	for i := range p.nodes {
		at := &p.nodes[i]
		if n := at.wholeBlocks(); n > 0 {
			at.block = uint32(p.size / BlockSize)
			p.size += n * BlockSize
		}
	}
	return p.checkSize()
}

// checkSize keeps addresses within 32 bits: of data, counted from the metadata on, and of inodes and attributes.
func (p *plan) checkSize() error {
	if p.size/BlockSize+p.o.DeviceSize/BlockSize >= blockLimit {
		return fault.New(fault.Unsupported, "write an EROFS image: %d bytes of metadata and %d of data are more than 32 bits of blocks of %d", p.size, p.o.DeviceSize, BlockSize)
	}
	return nil
}

// choose decides how an inode keeps its content.
func (p *plan) choose(at *placed) {
	n := at.node
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		at.size = dirSize(n)
		at.behind(at.size % BlockSize)
	case unix.S_IFLNK:
		at.size = int64(len(n.Target))
		at.behind(at.size)
	case unix.S_IFREG:
		at.size = n.Size
		if n.Data != nil {
			at.behind(at.size)
		} else if n.Size > 0 && !p.flat(n) {
			at.layout = layoutChunks
			at.chunk = uint8(chunkBits(n.Size, n.Extents))
			p.chunked = true
		}
	}
}

// flat reports whether a file needs no chunks: every kernel with EROFS reads an export whose files have no holes.
func (p *plan) flat(n *Node) bool {
	return p.o.SameDevice && len(n.Extents) == 1 && n.Extents[0].Offset == 0 && n.Extents[0].Size == n.Size
}

// behind puts the last part of an inode's content behind it, if both have room in one block.
func (at *placed) behind(tail int64) {
	if tail > 0 && extendedSize+int64(at.xattrs)+tail <= BlockSize {
		at.layout, at.tail = layoutInline, int32(tail)
	}
}

// chunks is the number of entries of a chunk based inode.
func (at *placed) chunks() int64 {
	if at.layout != layoutChunks {
		return 0
	}
	return (at.size-1)>>at.chunk + 1
}

// length is what an inode takes with what stands behind it.
func (at *placed) length() int64 {
	n := extendedSize + int64(at.xattrs)
	if at.layout == layoutChunks {
		return roundUp(n, indexSize) + at.chunks()*indexSize
	}
	return n + int64(at.tail)
}

// wholeBlocks is how many blocks of the metadata hold content that has no room behind the inode.
func (at *placed) wholeBlocks() int64 {
	if isReg(at.node.Mode) && at.node.Data == nil {
		return 0
	}
	return blocks(at.size - int64(at.tail))
}

// inOrder gives the numbers of all inodes by offset.
func (p *plan) inOrder() []uint32 {
	order := make([]uint32, len(p.nodes))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return int(p.nodes[a].off - p.nodes[b].off) })
	return order
}

// space hands out room for inodes. One that goes into a block never crosses into the next, as what stands behind it must not; the ends
// of blocks that this leaves are kept for smaller ones.
type space struct {
	next int64
	gaps []gap
}

type gap struct{ off, size int64 }

// maxGaps bounds the search. An inode stays near its neighbours by it, too.
const maxGaps = 16

func (s *space) take(n int64) int64 {
	n = roundUp(n, inodeSlot)
	if n > BlockSize {
		off := roundUp(s.next, extendedSize)
		s.next = off + n
		return off
	}
	for i := range s.gaps {
		if g := &s.gaps[i]; g.size >= n {
			off := g.off
			g.off, g.size = g.off+n, g.size-n
			if g.size < extendedSize {
				s.gaps = slices.Delete(s.gaps, i, i+1)
			}
			return off
		}
	}
	if room := roundUp(s.next, BlockSize) - s.next; room < n {
		s.leave(gap{s.next, room})
		s.next += room
	}
	off := s.next
	s.next += n
	return off
}

func (s *space) leave(g gap) {
	if g.size < extendedSize {
		return
	}
	if len(s.gaps) == maxGaps {
		s.gaps = slices.Delete(s.gaps, 0, 1)
	}
	s.gaps = append(s.gaps, g)
}
