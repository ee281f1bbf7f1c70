package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// Check verifies extent i, which the caller holds, unless it is Good; it is Good or Missing afterwards. A hole is made good.
func (m *Image) Check(i int) State {
	s := m.State(i)
	if s == Missing || s == Good {
		return s
	}
	if m.index.Extents[i].Chunk == format.Zero {
		return m.checkHole(i)
	}
	buf := m.cache.buffers.Get().(*[]byte)
	defer m.cache.buffers.Put(buf)
	plain, ok := m.read(i, (*buf)[:0])
	if !ok {
		m.damaged(i)
		return m.State(i)
	}
	*buf = plain
	m.move(i, Good, doubtful)
	return m.State(i)
}

// damaged notes that extent i, which has a chunk, is not what the cache took it for.
func (m *Image) damaged(i int) {
	m.cache.damaged.Add(1)
	m.cache.log.WithField("image", m.entry.digest).WithField("chunk", m.index.Chunks[m.index.Extents[i].Chunk].Sum).
		Warn("chunk in the cache is damaged; it is fetched again")
	m.MarkBad(i)
}

// read appends extent i as it lies there to buf and says whether its digest is right. The caller holds it.
func (m *Image) read(i int, buf []byte) ([]byte, bool) {
	x := m.index.Extents[i]
	from := len(buf)
	buf = slices.Grow(buf, int(x.Size))[:from+int(x.Size)]
	if _, err := m.data.ReadAt(buf[from:], m.index.Start(i)); err != nil {
		return nil, false
	}
	return buf, m.index.Algorithm.Sum(buf[from:]) == m.index.Chunks[x.Chunk].Sum
}

// MarkBad says that extent i is not what it should be: it is Missing afterwards.
func (m *Image) MarkBad(i int) {
	if m.index.Extents[i].Chunk == format.Zero {
		return // it needs nobody, and Check makes it good
	}
	m.present.set(i, false)
	m.move(i, Missing, always)
}

// checkHole makes a hole read as zeros. Where the file has none it was damaged, or shares a block with a chunk.
func (m *Image) checkHole(i int) State {
	start, end := m.index.Start(i), m.index.Start(i+1)
	fd := int(m.data.Fd())
	for at := start; at < end; {
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && data >= end {
			break
		}
		if err != nil {
			return Suspect
		}
		stop, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return Suspect
		}
		if err := m.clear(data, min(stop, end)); err != nil {
			return Suspect
		}
		at = stop
	}
	m.move(i, Good, always)
	return Good
}

// clear overwrites with zeros what is not zero.
func (m *Image) clear(from, to int64) error {
	var buf, zeros [64 << 10]byte
	for from < to {
		b := buf[:min(to-from, int64(len(buf)))]
		if _, err := m.data.ReadAt(b, from); err != nil && err != io.EOF {
			return err
		}
		if !bytes.Equal(b, zeros[:len(b)]) {
			m.cache.damaged.Add(1)
			if _, err := m.data.WriteAt(zeros[:len(b)], from); err != nil {
				return err
			}
		}
		from += int64(len(b))
	}
	return nil
}

// VerifyAll checks all that is not Good yet, in parallel. It returns nil when the image is then complete, and an error of kind NotFound
// that says how much is missing when it is not.
func (m *Image) VerifyAll(ctx context.Context) error {
	var at atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(at.Add(1)) - 1; i < len(m.extents) && ctx.Err() == nil; i = int(at.Add(1)) - 1 {
				if m.State(i) != Good {
					m.Hold(i)
					m.Check(i)
					m.Drop(i)
				}
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("verify image %s in the chunk cache: %w", m.entry.digest, err)
	}
	if n := m.notGood.Load(); n > 0 {
		return fault.New(fault.NotFound, "image %s is not complete: %d of %d extents are missing in the chunk cache", m.entry.digest, n, len(m.extents))
	}
	return nil
}
