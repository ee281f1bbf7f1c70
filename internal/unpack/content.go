package unpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// holeSize is what must be zeros to become a hole: a page, which is the unit of a tmpfs.
const holeSize = 4096

const bufferSize = 256 << 10

// write writes size bytes of content to the empty file fd. Pages of zeros become holes, so that a sparse file stays one.
func (u *unpacker) write(fd int, content io.Reader, size int64) (int64, error) {
	if u.buf == nil {
		u.buf = make([]byte, bufferSize)
	}
	var done, end int64 // end: how long the file is so far
	for done < size {
		if err := u.ctx.Err(); err != nil {
			return done, err
		}
		n, err := io.ReadFull(content, u.buf[:min(int64(len(u.buf)), size-done)])
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return done, readError(err, fmt.Sprintf("at byte %d of its %d", done+int64(n), size))
		}
		wrote, err := writeFull(fd, u.buf[:n], done)
		if err != nil {
			return done, err
		}
		if wrote > 0 {
			end = wrote
		}
		done += int64(n)
	}
	if end < size {
		return done, unix.Ftruncate(fd, size)
	}
	return done, nil
}

// writeFull writes the pages of p that are not zeros at offset; it gives the end of the last one, 0 when there was none.
func writeFull(fd int, p []byte, offset int64) (end int64, err error) {
	for len(p) > 0 {
		run, zeros := span(p)
		if !zeros {
			for at := 0; at < run; {
				n, err := unix.Pwrite(fd, p[at:run], offset+int64(at))
				if err != nil && !errors.Is(err, unix.EINTR) {
					return end, err
				}
				at += max(n, 0)
			}
			end = offset + int64(run)
		}
		p, offset = p[run:], offset+int64(run)
	}
	return end, nil
}

// span gives how many bytes at the beginning of p are of one sort: pages of zeros, or others.
func span(p []byte) (n int, zeros bool) {
	zeros = isZero(p[:min(holeSize, len(p))])
	for n = min(holeSize, len(p)); n < len(p); {
		next := min(n+holeSize, len(p))
		if isZero(p[n:next]) != zeros {
			break
		}
		n = next
	}
	return n, zeros
}

func isZero(p []byte) bool {
	for len(p) >= 8 {
		if binary.NativeEndian.Uint64(p) != 0 {
			return false
		}
		p = p[8:]
	}
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
