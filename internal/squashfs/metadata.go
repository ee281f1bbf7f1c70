package squashfs

import (
	"encoding/binary"
	"math"
)

// cursor reads metadata: a row of blocks, each of which has its size before it and is compressed by itself.
type cursor struct {
	x      *Reader
	at     uint64 // where the block is
	offset int    // in it
	block  entry  // empty: it has not been read yet
}

// metadata gives a cursor at an offset in the block that is at a place of the image.
func (x *Reader) metadata(at uint64, offset int) *cursor {
	return &cursor{x: x, at: at, offset: offset}
}

// mark gives a cursor at the same place, which holds no block.
func (c *cursor) mark() cursor { return cursor{x: c.x, at: c.at, offset: c.offset} }

// ref gives a cursor at a reference: a block, counted from the beginning of a table, and an offset in it.
func (x *Reader) ref(table, ref uint64) *cursor {
	at := table + ref>>16
	if at < table {
		at = math.MaxUint64
	}
	return x.metadata(at, int(ref&0xffff))
}

// read fills p.
func (c *cursor) read(p []byte) error {
	for len(p) > 0 {
		if err := c.load(); err != nil {
			return err
		}
		n := copy(p, c.block.data[c.offset:])
		p, c.offset = p[n:], c.offset+n
	}
	return nil
}

// load sees to it that there is something of a block to be read.
func (c *cursor) load() error {
	for c.block.data == nil || c.offset == len(c.block.data) {
		if c.block.data != nil {
			c.at, c.offset, c.block = c.block.next, 0, entry{}
		}
		b, err := c.x.meta.get(c.at, func() (entry, error) { return c.x.metaBlock(c.at) })
		if err != nil {
			return err
		}
		if c.offset > len(b.data) {
			return corrupt("something is at offset %d of a block of metadata that has %d bytes", c.offset, len(b.data))
		}
		c.block = b
	}
	return nil
}

// bytes gives the next n bytes, not all at once if there might not be so many.
func (c *cursor) bytes(n int) ([]byte, error) {
	var p []byte
	for len(p) < n {
		more := make([]byte, min(n-len(p), 64<<10))
		if err := c.read(more); err != nil {
			return nil, err
		}
		p = append(p, more...)
	}
	return p, nil
}

// decode reads the numbers that out points to.
func (c *cursor) decode(out any) error {
	p := make([]byte, binary.Size(out))
	if err := c.read(p); err != nil {
		return err
	}
	_, err := binary.Decode(p, binary.LittleEndian, out)
	return err
}

// metaBlock reads the block of metadata at a place.
func (x *Reader) metaBlock(at uint64) (entry, error) {
	var head [2]byte
	if err := x.readAt(head[:], at); err != nil {
		return entry{}, err
	}
	const plain = 0x8000
	size := binary.LittleEndian.Uint16(head[:])
	p := make([]byte, size&^plain)
	if len(p) == 0 || len(p) > metaSize {
		return entry{}, corrupt("a block of metadata at %d has %d bytes", at, len(p))
	}
	if err := x.readAt(p, at+2); err != nil {
		return entry{}, err
	}
	next := at + 2 + uint64(len(p))
	if size&plain == 0 {
		var err error
		if p, err = x.codec.decompress(make([]byte, metaSize), p); err != nil {
			return entry{}, corrupt("a block of metadata at %d: %w", at, err)
		}
	}
	return entry{data: p, next: next}, nil
}
