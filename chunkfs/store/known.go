package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Known is the chunks that a store has. It takes about 100 bytes a chunk, and is safe for concurrent use.
type Known struct {
	packs  []format.Pack
	chunks map[format.Sum]knownChunk
}

type knownChunk struct {
	size, pack, offset, stored uint32
	codec                      format.Codec
}

// Len is how many chunks are known.
func (k *Known) Len() int { return len(k.chunks) }

// Find gives the chunk of this content and the pack that it lies in. The chunk's Pack is 0: number the packs of the new index as they
// come.
func (k *Known) Find(sum format.Sum) (format.Pack, format.Chunk, bool) {
	c, ok := k.chunks[sum]
	if !ok {
		return format.Pack{}, format.Chunk{}, false
	}
	return k.packs[c.pack], format.Chunk{Sum: sum, Size: c.size, Offset: c.offset, Stored: c.stored, Codec: c.codec}, true
}

// Known gives every chunk of every image with a tag or a pin whose digests are of this algorithm and whose packs are there. The images are
// held until End, so whatever of it is reused stays. An image that is damaged is passed over. Of a chunk that lies in several packs the
// one counts whose image comes first, by name; so the same store gives the same answer.
func (t *Txn) Known(ctx context.Context, alg format.Algorithm) (*Known, error) {
	images, err := t.holdAll(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the chunks of %s: %w", t.store.dir, err)
	}
	k := &Known{chunks: map[format.Sum]knownChunk{}}
	packs := map[format.Pack]int{} // -1: it is not there
	for _, d := range images {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if d.Algorithm != alg {
			continue
		}
		if err := t.store.know(k, packs, d); err != nil {
			return nil, fmt.Errorf("list the chunks of the image %s: %w", d, err)
		}
	}
	return k, nil
}

// holdAll takes hold of all images that have a name, in the order of the names.
func (t *Txn) holdAll(ctx context.Context) (images []format.Digest, err error) {
	err = t.store.locked(ctx, shared, func() error {
		names, err := t.store.named()
		if err != nil {
			return err
		}
		for _, n := range names {
			if n.Damage != nil || slices.Contains(images, n.Image) {
				continue
			}
			if err := t.lease.add("image", n.Image); err != nil {
				return err
			}
			images = append(images, n.Image)
		}
		return nil
	})
	return images, err
}

// named lists what keeps images: tags, then pins under a name that no tag has.
func (s *Store) named() ([]TagInfo, error) {
	names, err := s.Tags()
	if err != nil {
		return nil, err
	}
	pins, err := s.Pins()
	if err != nil {
		return nil, err
	}
	for _, p := range pins {
		names = append(names, TagInfo{Name: pinPath(p.Image), Image: p.Image, Changed: p.Time})
	}
	return names, nil
}

func (s *Store) know(k *Known, packs map[format.Pack]int, image format.Digest) error {
	x, err := s.index(image)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) || fault.Is(err, fault.Unsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	numbers := make([]int, len(x.Packs))
	for i, p := range x.Packs {
		n, seen := packs[p]
		if !seen {
			there, err := s.present(format.Digest{Algorithm: x.Algorithm, Sum: p.Sum}, p.Size)
			if err != nil {
				return err
			}
			if n = -1; there {
				n = len(k.packs)
				k.packs = append(k.packs, p)
			}
			packs[p] = n
		}
		numbers[i] = n
	}
	for _, c := range x.Chunks {
		if n := numbers[c.Pack]; n >= 0 {
			if _, dup := k.chunks[c.Sum]; !dup {
				k.chunks[c.Sum] = knownChunk{c.Size, uint32(n), c.Offset, c.Stored, c.Codec}
			}
		}
	}
	return nil
}

// index gives the index of the image with this digest.
func (s *Store) index(image format.Digest) (*format.Index, error) {
	m, err := s.Manifest(image)
	if err != nil {
		return nil, err
	}
	return s.Index(m)
}
