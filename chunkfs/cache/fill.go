package cache

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Urgency says what may be evicted for a chunk.
type Urgency int

// The urgencies.
const (
	Wanted Urgency = iota // a reader wants it, now or soon: also chunks of images in use that nobody has used lately
	Spare                 // nobody has asked for it: only images that are not in use
)

// Fill writes the plain bytes of extent i, which has a chunk. Verified says that the caller has checked their digest; the extent is then
// Good, else Unchecked. An error that is ErrFull says that it was not kept, whatever the reason.
func (m *Image) Fill(i int, plain []byte, verified bool, u Urgency) error {
	x := m.index.Extents[i]
	if x.Chunk == format.Zero || int64(len(plain)) != x.Size {
		return fault.New(fault.Invalid, "extent %d of image %s has %d bytes, not %d", i, m.entry.digest, x.Size, len(plain))
	}
	if s := m.State(i); s == Good || s == Unchecked && !verified {
		return nil
	}
	c := m.cache
	room := blocks(m.index.Start(i), x.Size)
	if !c.reserve(room, u) {
		c.refused.Add(1)
		return ErrFull
	}
	err := m.write(i, plain, verified, u)
	c.room.written(room)
	if noSpace(err) && c.makeSpace(room, u) {
		err = m.write(i, plain, verified, u)
	}
	if err == nil {
		return nil
	}
	c.refused.Add(1)
	if noSpace(err) {
		c.room.full()
	}
	return fmt.Errorf("%w: %w", ErrFull, err)
}

func noSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// write puts the bytes there and then says so: who is killed in between leaves bytes that nobody looks at.
func (m *Image) write(i int, plain []byte, verified bool, u Urgency) error {
	m.space.RLock()
	defer m.space.RUnlock()
	if _, err := m.data.WriteAt(plain, m.index.Start(i)); err != nil {
		return err
	}
	m.present.set(i, true)
	state := Unchecked
	if verified {
		state = Good
	}
	m.move(i, state, func(w uint64) bool { return stateOf(w) != Good })
	if u == Wanted {
		m.see(i, m.cache.now.Load())
	}
	return nil
}

// blocks is how many bytes of blocks a chunk takes at most: those at its ends may be its neighbours' too.
func blocks(start, size int64) int64 {
	const b = format.BlockSize
	return (start+size+b-1)/b*b - start/b*b
}
