package image

import (
	"crypto/sha256"
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

// sum reads a file.
func (s side) sum(n *erofs.Node) (out [sha256.Size]byte, err error) {
	h := sha256.New()
	err = s.content.file(n, func(_ int64, piece []byte, size int64) error {
		if piece == nil {
			return zeros(h, size)
		}
		h.Write(piece)
		return nil
	})
	h.Sum(out[:0])
	return out, err
}

func zeros(h hash.Hash, n int64) error {
	block := make([]byte, min(n, 64<<10))
	for ; n > 0; n -= int64(len(block)) {
		h.Write(block[:min(n, int64(len(block)))])
	}
	return nil
}
