package lazy

import (
	"fmt"
	"io"
)

// Span is a piece of the device. It is a value, to be released once.
type Span struct {
	Fd     int    // of the cache file, when the span is in it; else -1
	Offset int64  // in the cache file
	Size   int    // bytes
	Bytes  []byte // Size bytes, when Fd is -1

	device      *Device
	first, last int   // extents that are held
	memory      int64 // that is lent
}

// Release lets the span's chunks be evicted and its memory be used again. The caller does not touch Bytes, nor read from Fd, afterwards.
func (s *Span) Release() {
	if s.device == nil {
		return
	}
	if s.Fd >= 0 {
		s.device.drop(s.first, s.last)
	}
	if s.memory > 0 {
		s.device.memory.Release(s.memory)
	}
	s.device = nil
}

func (s *Span) copyTo(p []byte) (int, error) {
	if s.Fd < 0 {
		return copy(p, s.Bytes), nil
	}
	n, err := s.device.image.Data().ReadAt(p[:s.Size], s.Offset)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, fmt.Errorf("read the chunk cache: %w", err)
	}
	return n, nil
}

func (d *Device) drop(first, last int) {
	for i := first; i <= last; i++ {
		d.image.Drop(i)
	}
}
