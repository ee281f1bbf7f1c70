package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// minZeros is the shortest run of zeros that is worth an extent of its own; shorter ones go into chunks, where they compress.
const minZeros = 64 << 10

// scanBuffer is how much of a file is read at once, in whole blocks.
const scanBuffer = 32 * format.BlockSize

var zeroBlock [format.BlockSize]byte //nolint:gochecknoglobals // never written

// scanner takes a file apart into runs of data and runs of zeros of at least minZeros, whether those were written or are holes. All of
// them are in whole blocks; behind the end of the file is zeros up to the block's end. Read gives the data of one run.
type scanner struct {
	from source.Content
	size int64 // of the file
	read int64 // how far the file has been read

	dataStart, dataEnd int64 // where the content's data is, at or behind read

	buf  []byte
	r, w int // buf[r:w] is there to be given

	zeros int64 // zeros that have been counted in front of buf[r:]
	emit  int64 // of them, those that Read gives as data
}

// reset begins another file.
func (s *scanner) reset(from source.Content, size int64) {
	if s.buf == nil {
		s.buf = make([]byte, scanBuffer)
	}
	*s = scanner{from: from, size: size, buf: s.buf}
}

// next goes on to the next run. Zeros is how many come before it: minZeros or more, fewer only in a file of nothing else. More says
// whether there is a run: false at the end of the file.
func (s *scanner) next() (zeros int64, more bool, err error) {
	if more, err = s.skipZeros(); err != nil {
		return 0, false, err
	}
	zeros, s.zeros = s.zeros, 0
	if zeros < minZeros && more {
		s.emit, zeros = zeros, 0
	}
	return zeros, more, nil
}

// Read gives the run's data until minZeros of zeros come, or the end of the file.
func (s *scanner) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.emit == 0 {
		if s.zeros > 0 {
			return 0, io.EOF // the run ended there
		}
		more, err := s.dataAhead()
		if err != nil {
			return 0, err
		}
		if s.zeros >= minZeros || !more && s.zeros == 0 {
			return 0, io.EOF
		}
		s.emit, s.zeros = s.zeros, 0
	}
	if s.emit > 0 {
		n := int(min(s.emit, int64(len(p))))
		clear(p[:n])
		s.emit -= int64(n)
		return n, nil
	}
	n := copy(p, s.buf[s.r:s.dataUntil(len(p))])
	s.r += n
	return n, nil
}

// dataAhead looks what comes next: when it is a block of zeros, they are counted.
func (s *scanner) dataAhead() (more bool, err error) {
	if s.r < s.w && s.r%format.BlockSize != 0 {
		return true, nil // in the middle of a block that has been looked at
	}
	return s.skipZeros()
}

// dataUntil says where in the buffer the next block of zeros begins, or the next n bytes end.
func (s *scanner) dataUntil(n int) int {
	end := min(s.w, s.r+n)
	for at := (s.r + format.BlockSize) / format.BlockSize * format.BlockSize; at < end; at += format.BlockSize {
		if isZero(s.buf[at : at+format.BlockSize]) {
			return at
		}
	}
	return end
}

// skipZeros counts blocks of zeros until a block has something else; false when the file ended before that.
func (s *scanner) skipZeros() (more bool, err error) {
	for {
		for ; s.r < s.w; s.r += format.BlockSize {
			if !isZero(s.buf[s.r : s.r+format.BlockSize]) {
				return true, nil
			}
			s.zeros += format.BlockSize
		}
		if s.read >= s.size {
			return false, nil
		}
		if err := s.fill(); err != nil {
			return false, err
		}
	}
}

func isZero(block []byte) bool {
	return block[0] == 0 && block[len(block)-1] == 0 && bytes.Equal(block, zeroBlock[:len(block)])
}

// fill reads the next blocks into the empty buffer, or counts a hole without reading it.
func (s *scanner) fill() error {
	s.r, s.w = 0, 0
	if err := s.seek(); err != nil {
		return err
	}
	if s.dataStart == s.size && s.read < s.size {
		s.zeros += roundUp(s.size) - s.read
		s.read = s.size
		return nil
	}
	if hole := s.dataStart&^(format.BlockSize-1) - s.read; hole > 0 {
		s.read += hole
		s.zeros += hole
	}
	for s.w < len(s.buf) && s.read < s.size {
		if s.w > 0 && s.w%format.BlockSize == 0 && s.dataStart-s.read >= format.BlockSize {
			break // a hole that need not be read
		}
		if err := s.some(); err != nil {
			return err
		}
	}
	clear(s.buf[s.w:roundUp(int64(s.w))])
	s.w = int(roundUp(int64(s.w)))
	return nil
}

// some adds the next bytes to the buffer: zeros up to where data begins, or data.
func (s *scanner) some() error {
	if s.read < s.dataStart {
		n := int(min(s.dataStart-s.read, int64(format.BlockSize-s.w%format.BlockSize)))
		clear(s.buf[s.w : s.w+n])
		s.w += n
		s.read += int64(n)
		return nil
	}
	n := int(min(s.dataEnd-s.read, int64(len(s.buf)-s.w)))
	if _, err := io.ReadFull(s.from, s.buf[s.w:s.w+n]); err != nil {
		return shortContent(s.read, s.size, err)
	}
	s.w += n
	s.read += int64(n)
	return s.seek()
}

// seek finds out where data goes on, at or behind what has been read.
func (s *scanner) seek() error {
	if s.read < s.dataEnd || s.read >= s.size {
		return nil
	}
	start, end, err := s.from.NextData(s.read)
	if errors.Is(err, io.EOF) {
		start, end, err = s.size, s.size, nil
	}
	if err != nil {
		return fmt.Errorf("find its data: %w", err)
	}
	if start < s.read || end < start || start == end && start < s.size {
		return fault.New(fault.Corrupt, "the source says that behind %d there is data from %d to %d", s.read, start, end)
	}
	s.dataStart, s.dataEnd = min(start, s.size), min(end, s.size)
	return nil
}

func shortContent(read, size int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.Corrupt, "the source has less than the file's %d bytes: it ended behind %d", size, read)
	}
	return fmt.Errorf("read it: %w", err)
}

func roundUp(n int64) int64 { return (n + format.BlockSize - 1) &^ (format.BlockSize - 1) }
