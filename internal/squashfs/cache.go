package squashfs

import (
	"container/list"
	"sync"
)

// cache keeps the blocks that were used last. Who wants one that another is just decompressing waits for it.
type cache struct {
	mu    sync.Mutex
	limit int
	slots map[uint64]*list.Element // of *slot
	order *list.List               // the last used first
}

type slot struct {
	at    uint64
	once  sync.Once
	entry entry
	err   error
}

// entry is a block, and for metadata where the next one is.
type entry struct {
	data []byte
	next uint64
}

func newCache(limit int) *cache {
	return &cache{limit: limit, slots: map[uint64]*list.Element{}, order: list.New()}
}

// get gives the block at a place; read is called if it is not there. What it gives is not to be written to.
func (c *cache) get(at uint64, read func() (entry, error)) (entry, error) {
	s := c.slot(at)
	s.once.Do(func() { s.entry, s.err = read() })
	return s.entry, s.err
}

func (c *cache) slot(at uint64) *slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.slots[at]; e != nil {
		c.order.MoveToFront(e)
		return e.Value.(*slot)
	}
	if c.order.Len() >= c.limit {
		last := c.order.Back()
		delete(c.slots, c.order.Remove(last).(*slot).at)
	}
	s := &slot{at: at}
	c.slots[at] = c.order.PushFront(s)
	return s
}
