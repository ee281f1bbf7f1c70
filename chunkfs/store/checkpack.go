package store

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// packCheck is one pack and the chunks that images have in it.
type packCheck struct {
	digest format.Digest
	size   int64
	chunks map[chunkAt]format.Chunk
	images []*imageCheck
}

// chunkAt tells chunks of a pack apart; two indexes may not agree on what is where.
type chunkAt struct {
	sum    format.Sum
	offset uint32
}

// readPacks reads every pack once, several at a time.
func (c *check) readPacks(ctx context.Context, images []*imageCheck) error {
	packs, err := c.collect(images)
	if err != nil {
		return err
	}
	next := make(chan *packCheck)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for range c.o.Parallel {
		all.Go(func() {
			for p := range next {
				if err := c.pack(ctx, p); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, p := range packs {
		select {
		case next <- p:
		case <-ctx.Done():
		}
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}

// collect lists the packs of all images, in the order of the images.
func (c *check) collect(images []*imageCheck) ([]*packCheck, error) {
	var list []*packCheck
	for _, i := range images {
		x, err := c.store.Index(i.manifest)
		if err != nil {
			return nil, err
		}
		for _, p := range x.Packs {
			d := format.Digest{Algorithm: x.Algorithm, Sum: p.Sum}
			pc := c.packs[d]
			if pc == nil {
				pc = &packCheck{digest: d, size: p.Size, chunks: map[chunkAt]format.Chunk{}}
				c.packs[d] = pc
				list = append(list, pc)
				c.total += p.Size
			}
			pc.images = append(pc.images, i)
		}
		for _, chunk := range x.Chunks {
			pc := c.packs[format.Digest{Algorithm: x.Algorithm, Sum: x.Packs[chunk.Pack].Sum}]
			pc.chunks[chunkAt{chunk.Sum, chunk.Offset}] = chunk
		}
	}
	return list, nil
}

// pack reads a pack and all chunks in it.
func (c *check) pack(ctx context.Context, p *packCheck) error {
	damage, bad, err := c.look(ctx, p)
	c.read(p, len(p.chunks))
	if damage == "" || err != nil {
		return err
	}
	d := Damage{What: PackDamage, Path: format.BlobPath(p.digest), Chunks: bad, Error: damage, digest: p.digest}
	for _, i := range p.images {
		d.Images = append(d.Images, i.names...)
	}
	if err := c.mend(ctx, &d, p.size); err != nil {
		return err
	}
	if d.Mended {
		again, bad, err := c.look(ctx, p)
		if err != nil {
			return err
		}
		if again != "" {
			d.What, d.Mended, d.Chunks, d.Error = ChunkDamage, false, bad, again
		}
	}
	c.add(d)
	return nil
}

func (c *check) read(p *packCheck, chunks int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += p.size
	c.report.Blobs++
	c.report.Bytes += p.size
	c.report.Chunks += int64(chunks)
	if c.o.Progress != nil {
		c.o.Progress(c.done, c.total)
	}
}

// look says what is wrong with a pack, and which of its chunks cannot be read. Nothing wrong is "".
func (c *check) look(ctx context.Context, p *packCheck) (damage string, bad []format.Sum, err error) {
	f, err := os.Open(c.store.path(format.BlobPath(p.digest)))
	if os.IsNotExist(err) {
		return "the pack is missing", p.sums(), nil
	}
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	sum, err := digestOf(ctx, p.digest.Algorithm, f)
	if ctx.Err() != nil {
		return "", nil, ctx.Err()
	}
	switch {
	case err != nil:
		damage = err.Error() // of the disk: a damage like another
	case sum != p.digest:
		damage = "its content has another digest"
		if st, err := f.Stat(); err == nil && st.Size() != p.size {
			damage = fmt.Sprintf("it has %d bytes in place of %d", st.Size(), p.size)
		}
	}
	bad, first, err := p.decode(ctx, f)
	if err != nil {
		return "", nil, err
	}
	if damage == "" && len(bad) > 0 {
		damage = "the pack has its digest, but not what the index says: " + first.Error()
	}
	return damage, bad, nil
}

// decode reads every chunk and gives those that are damaged, with the first error.
func (p *packCheck) decode(ctx context.Context, f io.ReaderAt) (bad []format.Sum, first, err error) {
	dec, err := format.NewDecoder()
	if err != nil {
		return nil, nil, err
	}
	chunks := make([]format.Chunk, 0, len(p.chunks))
	for _, c := range p.chunks {
		chunks = append(chunks, c)
	}
	slices.SortFunc(chunks, func(a, b format.Chunk) int { return int(int64(a.Offset) - int64(b.Offset)) })
	var stored, plain []byte
	for _, chunk := range chunks {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		stored = slices.Grow(stored[:0], int(chunk.Stored))[:chunk.Stored]
		_, err := f.ReadAt(stored, int64(chunk.Offset))
		if err == nil {
			plain, err = dec.Chunk(plain, p.digest.Algorithm, chunk, stored)
		}
		if err != nil {
			bad = append(bad, chunk.Sum)
			if first == nil {
				first = err
			}
		}
	}
	return bad, first, nil
}

func (p *packCheck) sums() (list []format.Sum) {
	for at := range p.chunks {
		list = append(list, at.sum)
	}
	slices.SortFunc(list, func(a, b format.Sum) int { return slices.Compare(a[:], b[:]) })
	return list
}

// rest checks the blobs that no image needs: a build may reuse them.
func (c *check) rest(ctx context.Context) error {
	return c.store.walkBlobs(func(d format.Digest, e fs.DirEntry) error {
		_, seen := c.blobs[d]
		if _, pack := c.packs[d]; seen || pack {
			return nil
		}
		f, err := os.Open(c.store.path(format.BlobPath(d)))
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		sum, err := digestOf(ctx, d.Algorithm, f)
		if err != nil || sum == d {
			return err
		}
		c.report.Blobs++
		damage := Damage{What: BlobDamage, Path: format.BlobPath(d), Error: "its content has another digest, and no image needs it", digest: d}
		if c.o.Peer != nil {
			if err := c.drop(ctx, d); err != nil {
				return err
			}
			damage.Mended = true
			damage.Error += "; removed"
		}
		c.add(damage)
		return nil
	})
}

// drop removes a damaged blob that no image needs. A builder that wants it finds it missing and writes it again.
func (c *check) drop(ctx context.Context, d format.Digest) error {
	return c.store.locked(ctx, exclusive, func() error {
		if _, err := c.store.Blob(d, format.MaxPack); err == nil || fault.Is(err, fault.NotFound) {
			return nil
		}
		return os.Remove(c.store.path(format.BlobPath(d)))
	})
}
