package serve

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/lazy"
)

// spanResult gives a span to go-fuse, which releases it once it is written.
func spanResult(s lazy.Span) fuse.ReadResult {
	if s.Fd >= 0 {
		return &fileSpan{s}
	}
	return &memorySpan{s}
}

// fileSpan is spliced from the cache file into the kernel's request.
type fileSpan struct{ span lazy.Span }

func (r *fileSpan) Size() int { return r.span.Size }
func (r *fileSpan) Done()     { r.span.Release() }

// Seekable is how go-fuse asks for what can be spliced.
func (r *fileSpan) Seekable() (fd uintptr, off int64, n int) {
	return uintptr(r.span.Fd), r.span.Offset, r.span.Size
}

// Bytes is for when splicing did not work. A piece that cannot be read whole is an error: the span was there.
func (r *fileSpan) Bytes(buf []byte) ([]byte, fuse.Status) {
	buf = buf[:r.span.Size]
	for done := 0; done < len(buf); {
		n, err := unix.Pread(r.span.Fd, buf[done:], r.span.Offset+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return nil, fuse.EIO
		}
		done += n
	}
	return buf, fuse.OK
}

// memorySpan is written from where it lies.
type memorySpan struct{ span lazy.Span }

func (r *memorySpan) Size() int                          { return r.span.Size }
func (r *memorySpan) Done()                              { r.span.Release() }
func (r *memorySpan) Bytes([]byte) ([]byte, fuse.Status) { return r.span.Bytes, fuse.OK }
func (r *memorySpan) Slices() ([][]byte, fuse.Status)    { return [][]byte{r.span.Bytes}, fuse.OK }
