package image

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"slices"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// sameContent says whether two files read the same. Files that are the same pieces of the same chunks are; of others of the same size the
// content is read, for chunks may be cut otherwise around the same bytes.
func (c *comparison) sameContent(a, b *erofs.Node) (bool, error) {
	if a.Size != b.Size {
		return false, nil
	}
	if a.Size == 0 {
		return true, nil
	}
	pa, pb := c.a.pieces(a), c.b.pieces(b)
	if pa != nil && pb != nil && c.a.img.Index.Algorithm == c.b.img.Index.Algorithm && slices.Equal(pa, pb) {
		return true, nil
	}
	sa, err := c.a.sum(a)
	if err != nil {
		return false, err
	}
	sb, err := c.b.sum(b)
	return sa == sb, err
}

// piece is some bytes of a file: where in it, and where in which chunk.
type piece struct {
	at, size int64
	chunk    format.Sum
	skip     int64
}

// pieces gives what a file is made of; nil when it is kept in the metadata, or when that is damaged, which reading will say.
func (s side) pieces(n *erofs.Node) []piece {
	x := s.img.Index
	if n.Data != nil {
		return nil
	}
	list := []piece{}
	for _, e := range n.Extents {
		for off := e.Device; off < e.Device+e.Size; {
			i := x.Find(off)
			if i < 0 {
				return nil
			}
			start := x.Start(i)
			size := min(start+x.Extents[i].Size, e.Device+e.Size) - off
			if chunk := x.Extents[i].Chunk; chunk != format.Zero {
				list = append(list, piece{e.Offset + off - e.Device, size, x.Chunks[chunk].Sum, off - start})
			}
			off += size
		}
	}
	return list
}

// sum gives a digest of what a file holds. Holes and zeros are the same and take no time.
func (s side) sum(n *erofs.Node) (out [sha256.Size]byte, err error) {
	b := &blocks{h: sha256.New()}
	err = s.content.file(n, func(off int64, piece []byte, _ int64) error {
		b.add(off, piece)
		return nil
	})
	b.flush()
	b.h.Sum(out[:0])
	return out, err
}

// blocks hashes the blocks of a file that are not zeros, each with its place. Pieces come in order.
type blocks struct {
	h     hash.Hash
	block [format.BlockSize]byte
	at    int64 // number of the block
	used  bool
}

func (b *blocks) add(off int64, piece []byte) {
	for len(piece) > 0 {
		if n := off / format.BlockSize; n != b.at {
			b.flush()
			b.at = n
		}
		n := copy(b.block[off%format.BlockSize:], piece)
		b.used = true
		off, piece = off+int64(n), piece[n:]
	}
}

func (b *blocks) flush() {
	if b.used && b.block != [format.BlockSize]byte{} {
		var at [8]byte
		binary.LittleEndian.PutUint64(at[:], uint64(b.at))
		b.h.Write(at[:])
		b.h.Write(b.block[:])
	}
	clear(b.block[:])
	b.used = false
}
