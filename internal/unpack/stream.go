package unpack

import (
	"context"
	"io"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// blockSize is the unit of a tar archive; two blocks of zeros end it.
const blockSize = 512

// limited ends with the context, and with the limit.
type limited struct {
	ctx   context.Context //nolint:containedctx // it is one operation
	r     io.Reader
	n     int64
	limit int64
}

func (l *limited) Read(p []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := l.r.Read(p)
	l.n += int64(n)
	if l.limit > 0 && l.n > l.limit {
		return n, fault.New(fault.TooLarge, "the archive goes on after %d bytes, which is the limit", l.limit)
	}
	return n, err
}

// endMark sees whether the last that was read was zeros. archive/tar takes an archive that ends between two entries as whole, but that
// is what a download looks like that was cut off.
type endMark struct {
	r     io.Reader
	zeros int64 // at the end of what was read
}

func (e *endMark) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	i := n
	for i > 0 && p[i-1] == 0 {
		i--
	}
	if i > 0 {
		e.zeros = 0
	}
	e.zeros += int64(n - i)
	return n, err
}

// finish reads what is left, so that a decompressor comes to its checksum, and looks for the end mark unless there need not be one.
func (e *endMark) finish(last string, unmarked bool) error {
	marked := unmarked || e.zeros >= blockSize
	if _, err := io.Copy(io.Discard, e.r); err != nil {
		return readError(err, "after "+last)
	}
	if !marked {
		return fault.New(fault.Corrupt, "the archive is cut off after %s: it has no end mark", last)
	}
	return nil
}
