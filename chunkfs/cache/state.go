package cache

import (
	"sync/atomic"

	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// State is what the cache knows of one extent of an image.
type State uint8

// The states.
const (
	Missing   State = iota
	Suspect         // it may be there, from before this process; Check it
	Unchecked       // it was written by this process, for a mount that does not verify; others Check it
	Good            // it is there and was verified in this process
)

// extent is the state of an extent in one word, so that a reader of a chunk that is there needs one atomic operation and no lock:
// from the lowest bit on 2 bits of State, 30 bits of Cache.now when it was last held, 32 bits of holds.
type extent struct{ word atomic.Uint64 }

const (
	stateMask = 1<<2 - 1
	seenMask  = 1<<30 - 1
	seenShift = 2
	oneHold   = 1 << 32
)

func stateOf(w uint64) State { return State(w & stateMask) }
func seenOf(w uint64) uint32 { return uint32(w>>seenShift) & seenMask }
func holdsOf(w uint64) int   { return int(w >> 32) }

// Hold keeps extent i from eviction until Drop, and marks it as used.
func (m *Image) Hold(i int) State {
	w := m.extents[i].word.Add(oneHold)
	if now := m.cache.now.Load(); seenOf(w) != now {
		m.see(i, now)
	}
	return stateOf(w)
}

// Drop ends a Hold.
func (m *Image) Drop(i int) { m.extents[i].word.Add(^uint64(oneHold - 1)) }

// State is what is known of extent i.
func (m *Image) State(i int) State { return stateOf(m.extents[i].word.Load()) }

func (m *Image) see(i int, now uint32) {
	for word := &m.extents[i].word; ; {
		w := word.Load()
		if word.CompareAndSwap(w, w&^(seenMask<<seenShift)|uint64(now&seenMask)<<seenShift) {
			return
		}
	}
}

// move changes the state of an extent if may says so, and keeps the sums. It returns whether it did.
func (m *Image) move(i int, to State, may func(w uint64) bool) bool {
	for word := &m.extents[i].word; ; {
		w := word.Load()
		if !may(w) {
			return false
		}
		if word.CompareAndSwap(w, w&^stateMask|uint64(to)) {
			m.count(i, stateOf(w), to)
			return true
		}
	}
}

func (m *Image) count(i int, from, to State) {
	if (from == Good) == (to == Good) {
		return
	}
	sign := int64(1)
	if from == Good {
		sign = -1
	}
	m.notGood.Add(-sign)
	if x := m.index.Extents[i]; x.Chunk != format.Zero {
		m.good.Add(sign * x.Size)
	}
}

func always(uint64) bool { return true }

// doubtful is a condition for move: the extent is there, but nobody has checked it yet.
func doubtful(w uint64) bool { return stateOf(w) == Suspect || stateOf(w) == Unchecked }
