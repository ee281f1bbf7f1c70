package initramfs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// source counts what is taken from it. It is an io.ByteReader, of which gzip takes no more than it needs.
type source struct {
	r  *bufio.Reader
	at int64
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.at += int64(n)
	return n, err
}

func (s *source) ReadByte() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.at++
	}
	return b, err
}

func (s *source) skipZeros() error {
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return s.r.UnreadByte()
		}
		s.at++
	}
}

// slow gives a byte at a time: the reader of xz has no other way not to take what comes after its stream, but for one byte.
type slow struct {
	s    *source
	last [2]byte
}

func (s *slow) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := s.s.ReadByte()
	if err != nil {
		return 0, err
	}
	s.last = [2]byte{s.last[1], b}
	p[0] = b
	return 1, nil
}

// giveBack gives the one byte back. A stream of xz ends with YZ.
func (s *slow) giveBack() error {
	if s.last == [2]byte{'Y', 'Z'} {
		return nil
	}
	s.s.at--
	return s.s.r.UnreadByte()
}

// frame gives the bytes of one frame of zstd, of which the length stands nowhere but before each of its blocks: RFC 8878, 3.1.1.
type frame struct {
	in       *source
	text     []byte // to give before more is taken
	sum      int    // bytes of the sum at the end
	left     int    // bytes of the block
	begun    bool
	last     bool
	complete bool
}

func (f *frame) Read(p []byte) (int, error) {
	for len(f.text) == 0 && f.left == 0 {
		if f.complete {
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
	}
	if len(f.text) > 0 {
		n := copy(p, f.text)
		f.text = f.text[n:]
		return n, nil
	}
	n, err := f.in.Read(p[:min(len(p), f.left)])
	f.left -= n
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next takes the next head: that of the frame, of a block, or what ends the frame.
func (f *frame) next() error {
	switch {
	case !f.begun:
		f.begun = true
		return f.head()
	case f.last:
		f.complete = true
		return f.take(f.sum)
	}
	if err := f.take(3); err != nil {
		return err
	}
	head := uint32(f.text[0]) | uint32(f.text[1])<<8 | uint32(f.text[2])<<16
	f.last = head&1 != 0
	if f.left = int(head >> 3); head>>1&3 == 1 { // one byte, to be repeated
		f.left = 1
	}
	return nil
}

func (f *frame) head() error {
	if err := f.take(5); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(f.text) != 0xfd2fb528 {
		return errors.New("no frame of zstd")
	}
	flags := f.text[4]
	single := flags >> 5 & 1
	size := []int{int(single), 2, 4, 8}[flags>>6]
	more := size + 1 - int(single) + []int{0, 1, 2, 4}[flags&3]
	f.sum = 4 * int(flags>>2&1)
	before := f.text
	if err := f.take(more); err != nil {
		return err
	}
	f.text = append(before, f.text...)
	return nil
}

func (f *frame) take(n int) error {
	f.text = make([]byte, n)
	_, err := io.ReadFull(f.in, f.text)
	return err
}
