package build

import (
	"context"
	"math/bits"
	"sync"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

// content is what a chunk holds. There is one for every digest, however often it occurs.
type content struct {
	sum  format.Sum
	size int64

	known bool // the store has it:
	pack  format.Pack
	chunk format.Chunk

	plain  []byte        // until it is compressed
	stored []byte        // when done is closed, until it is placed
	codec  format.Codec  // when done is closed
	done   chan struct{} // nil when known

	number uint32 // of the chunk in the index; format.Zero until it is placed. Of the placer alone.
}

// contents finds what a chunk holds by its digest, and has new ones compressed.
type contents struct {
	alg     format.Algorithm
	known   *store.Known
	todo    chan *content
	buffers buffers

	mu    sync.Mutex
	bySum map[format.Sum]*content
	anew  bool // what the store has does not count
}

func newContents(known *store.Known, o Options) *contents {
	return &contents{alg: o.Algorithm, known: known, todo: make(chan *content, 2*o.Parallel), bySum: map[format.Sum]*content{}}
}

// of gives the content of plain, which the caller keeps.
func (cs *contents) of(ctx context.Context, plain []byte) (*content, error) {
	c, isNew := cs.claim(cs.alg.Sum(plain), int64(len(plain)))
	if !isNew {
		return c, nil
	}
	c.plain = append(cs.buffers.get(len(plain)), plain...)
	select {
	case cs.todo <- c:
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// claim says whether the content is to be compressed: the first who asks for it gets that answer.
func (cs *contents) claim(sum format.Sum, size int64) (c *content, isNew bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c = cs.bySum[sum]; c != nil {
		return c, false
	}
	c = &content{sum: sum, size: size, number: format.Zero}
	if !cs.anew {
		c.pack, c.chunk, c.known = cs.known.Find(sum)
	}
	if !c.known {
		c.done = make(chan struct{})
	}
	cs.bySum[sum] = c
	return c, !c.known
}

// recalled gives the content of a digest that nobody has the bytes of, if somebody has asked for it before or the store has it.
func (cs *contents) recalled(p part) (*content, bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.bySum[p.sum]; c != nil || cs.anew {
		return c, c != nil && c.size == p.size
	}
	pack, chunk, ok := cs.known.Find(p.sum)
	if !ok || int64(chunk.Size) != p.size {
		return nil, false
	}
	c := &content{sum: p.sum, size: p.size, known: true, pack: pack, chunk: chunk, number: format.Zero}
	cs.bySum[p.sum] = c
	return c, true
}

// reuseNothing lets chunks that nobody has asked for yet be stored anew, though the store may have them.
func (cs *contents) reuseNothing() {
	cs.mu.Lock()
	cs.anew = true
	cs.mu.Unlock()
}

// compress works until todo is closed.
func (cs *contents) compress(ctx context.Context, codec format.Codec, level int) error {
	e, err := format.NewEncoder(codec, level)
	if err != nil {
		return err
	}
	for {
		select {
		case c, ok := <-cs.todo:
			if !ok {
				return nil
			}
			c.stored, c.codec = e.Encode(cs.buffers.get(len(c.plain)), c.plain)
			cs.buffers.put(c.plain)
			c.plain = nil
			close(c.done)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// wait returns when what is stored of the content is known.
func (c *content) wait(ctx context.Context) error {
	if c.done == nil {
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// buffers keeps byte slices for those who come next, by powers of two, so that a small chunk does not hold the memory of a large one.
type buffers struct{ pools [32]sync.Pool }

// get gives an empty slice with room for n bytes.
func (b *buffers) get(n int) []byte {
	class := bits.Len(uint(max(n, format.BlockSize) - 1))
	if p, ok := b.pools[class].Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return make([]byte, 0, 1<<class)
}

// put takes back what get gave; a slice that has grown elsewhere is left to the collector.
func (b *buffers) put(p []byte) {
	if class := bits.Len(uint(cap(p) - 1)); cap(p) == 1<<class {
		b.pools[class].Put(&p)
	}
}
