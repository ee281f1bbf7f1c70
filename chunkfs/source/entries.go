package source

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/unpack"
)

// entries are those of a tar, one after the other. archive/tar gives a sparse file with its holes filled by zeros; here the holes are
// passed over: the bytes of such a file are taken from beneath its reader, which then gets others to throw away in their place.
type entries struct {
	ctx  context.Context //nolint:containedctx // it is one operation
	tap  *tap
	in   *unpack.Reader
	size int64
	runs []run // where a sparse file has data; nil: the file is not one
	raw  int64 // bytes of runs that have been read
	open *tarContent
}

// run is a part of a file.
type run struct{ start, end int64 }

func newEntries(ctx context.Context, r io.Reader, o unpack.Options) *entries {
	t := &tap{r: r}
	return &entries{ctx: ctx, tap: t, in: unpack.NewReader(ctx, t, o)}
}

// Next gives the next entry; what has not been read of the one before is passed over.
func (e *entries) Next() (*tar.Header, error) {
	if e.open != nil {
		e.open.e = nil
	}
	if err := e.drain(); err != nil {
		return nil, err
	}
	e.open, e.runs, e.size, e.raw = nil, nil, 0, 0
	e.tap.record()
	h, err := e.in.Next()
	head := e.tap.recorded()
	if err != nil {
		return nil, err
	}
	e.size = h.Size
	e.runs = sparseRuns(h, head)
	return h, nil
}

func (e *entries) drain() error {
	if e.runs == nil {
		_, err := io.Copy(io.Discard, e.in)
		return err
	}
	return e.discard(total(e.runs) - e.raw)
}

func total(runs []run) (n int64) {
	for _, r := range runs {
		n += r.end - r.start
	}
	return n
}

// content gives that of the entry, until Next is called.
func (e *entries) content() (Content, error) {
	if e.open != nil {
		return nil, fault.New(fault.BadState, "the content of an entry is there once only")
	}
	e.open = &tarContent{e: e}
	return e.open, nil
}

// take reads bytes of a sparse file past archive/tar.
func (e *entries) take(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := e.tap.take(p)
	e.raw += int64(n)
	if n > 0 {
		err = nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = damaged("the archive is cut off in the content of a file")
	}
	return n, err
}

func (e *entries) discard(n int64) error {
	buf := make([]byte, min(n, 64<<10))
	for n > 0 {
		m, err := e.take(buf[:min(n, int64(len(buf)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// tarContent is the content of an entry.
type tarContent struct {
	e    *entries // nil: the next entry has come
	pos  int64
	next int // run that is at pos or after it
}

func (c *tarContent) Read(p []byte) (int, error) {
	switch {
	case c.e == nil:
		return 0, fault.New(fault.BadState, "the archive has been read further than this file")
	case c.pos >= c.e.size:
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), c.e.size-c.pos)]
	n, err := c.read(p)
	c.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (c *tarContent) read(p []byte) (int, error) {
	if c.e.runs == nil {
		return c.e.in.Read(p)
	}
	for c.next < len(c.e.runs) && c.e.runs[c.next].end <= c.pos {
		c.next++
	}
	hole := c.e.size
	if c.next < len(c.e.runs) {
		r := c.e.runs[c.next]
		if c.pos >= r.start {
			return c.e.take(p[:min(int64(len(p)), r.end-c.pos)])
		}
		hole = r.start
	}
	p = p[:min(int64(len(p)), hole-c.pos)]
	clear(p)
	return len(p), nil
}

func (c *tarContent) NextData(off int64) (start, end int64, err error) {
	if c.e == nil {
		return 0, 0, fault.New(fault.BadState, "the archive has been read further than this file")
	}
	off = max(off, c.pos)
	if c.e.runs == nil {
		_, err := io.CopyN(io.Discard, c, min(off, c.e.size)-c.pos)
		if err == nil && off >= c.e.size {
			err = io.EOF
		}
		return off, c.e.size, err
	}
	for ; c.next < len(c.e.runs); c.next++ {
		r := c.e.runs[c.next]
		start = max(off, r.start)
		if err := c.e.discard(min(start, r.end) - max(c.pos, r.start)); err != nil {
			return 0, 0, err
		}
		c.pos = max(c.pos, min(start, r.end))
		if start < r.end {
			c.pos = start
			return start, r.end, nil
		}
	}
	c.pos = c.e.size
	return 0, 0, io.EOF
}

// Close leaves the rest to Next.
func (c *tarContent) Close() error { return nil }

// tap gives what r gives and can write down what goes through it.
type tap struct {
	r    io.Reader
	n    int64 // read of r
	owed int64 // bytes that have been taken and that archive/tar still thinks are to come
	rec  []byte
	from int64
	on   bool
}

// maxRecord is more than archive/tar takes for the headers of one entry.
const maxRecord = 8 << 20

func (t *tap) record() { t.rec, t.from, t.on = t.rec[:0], t.n, true }

// recorded gives what went through since record, from the first header block on.
func (t *tap) recorded() []byte {
	t.on = false
	pad := -t.from & (tarBlock - 1)
	if int64(len(t.rec)) < pad {
		return nil
	}
	return t.rec[pad:]
}

func (t *tap) Read(p []byte) (int, error) {
	if t.owed > 0 {
		p = p[:min(int64(len(p)), t.owed)]
		for i := range p {
			p[i] = 0xff // zeros would look like the end of the archive
		}
		t.owed -= int64(len(p))
		return len(p), nil
	}
	n, err := t.r.Read(p)
	t.n += int64(n)
	if t.on && len(t.rec)+n <= maxRecord {
		t.rec = append(t.rec, p[:n]...)
	} else {
		t.on = false
	}
	return n, err
}

func (t *tap) take(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.n += int64(n)
	t.owed += int64(n)
	return n, err
}
