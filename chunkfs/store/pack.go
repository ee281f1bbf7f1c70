package store

import (
	"bufio"
	"context"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// PackWriter writes one pack. It is used by one goroutine; Abort after Commit does nothing.
type PackWriter struct {
	txn  *Txn
	alg  format.Algorithm
	f    *os.File
	buf  *bufio.Writer
	sum  hash.Hash
	size int64
}

// Pack begins a pack.
func (t *Txn) Pack(alg format.Algorithm) (*PackWriter, error) {
	f, err := t.lease.temp()
	if err != nil {
		return nil, fmt.Errorf("begin a pack: %w", err)
	}
	w := &PackWriter{txn: t, alg: alg, f: f, sum: alg.Hash()}
	w.buf = bufio.NewWriterSize(io.MultiWriter(f, w.sum), 1<<20)
	return w, nil
}

// Add appends a stored chunk and says where in the pack it begins.
func (w *PackWriter) Add(stored []byte) (offset int64, err error) {
	if int64(len(stored)) > format.MaxPack-w.size {
		return 0, fault.New(fault.TooLarge, "a pack of %d bytes has no room for %d more: %d is the limit", w.size, len(stored), format.MaxPack)
	}
	if _, err := w.buf.Write(stored); err != nil {
		return 0, fmt.Errorf("write a pack: %w", err)
	}
	offset = w.size
	w.size += int64(len(stored))
	return offset, nil
}

// Size is how many bytes the pack has so far.
func (w *PackWriter) Size() int64 { return w.size }

// Commit makes the pack a blob of the store, durably. Whatever it answers, the writer is done.
func (w *PackWriter) Commit(ctx context.Context) (format.Pack, error) {
	defer w.Abort()
	if w.size == 0 {
		return format.Pack{}, fault.New(fault.Invalid, "a pack must hold something")
	}
	if err := w.buf.Flush(); err != nil {
		return format.Pack{}, fmt.Errorf("write a pack: %w", err)
	}
	d := w.alg.DigestOf(w.sum)
	p := format.Pack{Sum: d.Sum, Size: w.size}
	if there, err := w.txn.reuse(ctx, d, w.size); there || err != nil {
		return p, err
	}
	if err := w.txn.publish(ctx, w.f, d); err != nil {
		return format.Pack{}, fmt.Errorf("store the pack %s: %w", d, err)
	}
	w.f.Close()
	w.f = nil
	return p, nil
}

// Abort drops the pack.
func (w *PackWriter) Abort() {
	if w.f == nil {
		return
	}
	_ = os.Remove(w.f.Name())
	w.f.Close()
	w.f = nil
}
