package build

import (
	"context"
	"fmt"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/store"
)

// packs writes new packs, and numbers them and those of the store in slots. A pack is made durable while the next one is written.
type packs struct {
	txn  *store.Txn
	alg  format.Algorithm
	size int64 // of a pack, at most

	slots   []format.Pack // of a pack that is not finished, nothing
	isNew   []bool
	byPack  map[format.Pack]uint32 // of the store
	current *store.PackWriter
	slot    uint32 // of current
	pending *commit
}

// commit is of a pack that is being made durable. What comes out is there when done is closed.
type commit struct {
	slot uint32
	done chan struct{}
	pack format.Pack
	err  error
}

func newPacks(txn *store.Txn, o Options) *packs {
	return &packs{txn: txn, alg: o.Algorithm, size: int64(o.PackSize), byPack: map[format.Pack]uint32{}}
}

// known gives the slot of a pack of the store.
func (p *packs) known(pack format.Pack) uint32 {
	slot, ok := p.byPack[pack]
	if !ok {
		slot = p.take(pack, false)
		p.byPack[pack] = slot
	}
	return slot
}

func (p *packs) take(pack format.Pack, isNew bool) uint32 {
	p.slots = append(p.slots, pack)
	p.isNew = append(p.isNew, isNew)
	return uint32(len(p.slots) - 1)
}

// add writes a stored chunk to the current pack, or to the next one when that is full.
func (p *packs) add(ctx context.Context, stored []byte) (slot, offset uint32, err error) {
	if p.current != nil && p.current.Size()+int64(len(stored)) > p.size {
		if err := p.end(ctx); err != nil {
			return 0, 0, err
		}
	}
	if p.current == nil {
		if p.current, err = p.txn.Pack(p.alg); err != nil {
			return 0, 0, err
		}
		p.slot = p.take(format.Pack{}, true)
	}
	off, err := p.current.Add(stored)
	if err != nil {
		return 0, 0, fmt.Errorf("store a chunk: %w", err)
	}
	return p.slot, uint32(off), nil
}

// end lets the next chunk go to a pack of its own. It waits until the pack before the current one is durable.
func (p *packs) end(ctx context.Context) error {
	if p.current == nil {
		return nil
	}
	if err := p.settle(); err != nil {
		return err
	}
	w, c := p.current, &commit{slot: p.slot, done: make(chan struct{})}
	p.current, p.pending = nil, c
	go func() {
		defer close(c.done)
		c.pack, c.err = w.Commit(ctx)
	}()
	return nil
}

// settle waits for the pack that is being made durable.
func (p *packs) settle() error {
	c := p.pending
	if c == nil {
		return nil
	}
	p.pending = nil
	<-c.done
	p.slots[c.slot] = c.pack
	return c.err
}

// close makes all packs durable.
func (p *packs) close(ctx context.Context) error {
	if err := p.end(ctx); err != nil {
		return err
	}
	return p.settle()
}

// abandon drops what is not finished; after close there is nothing left to drop.
func (p *packs) abandon() {
	_ = p.settle()
	if p.current != nil {
		p.current.Abort()
		p.current = nil
	}
}

// added is how many bytes new packs have. One that the store has already, under the same digest, is not counted.
func (p *packs) added() (n int64) {
	for i, pack := range p.slots {
		if _, had := p.byPack[pack]; p.isNew[i] && !had {
			n += pack.Size
		}
	}
	return n
}

// number gives the chunks the numbers of their packs in an index, in the order in which they name them, and the packs in that order.
func (p *packs) number(chunks []format.Chunk) []format.Pack {
	var list []format.Pack
	numbers := map[format.Pack]uint32{}
	for i := range chunks {
		pack := p.slots[chunks[i].Pack]
		n, ok := numbers[pack]
		if !ok {
			n = uint32(len(list))
			numbers[pack] = n
			list = append(list, pack)
		}
		chunks[i].Pack = n
	}
	return list
}
