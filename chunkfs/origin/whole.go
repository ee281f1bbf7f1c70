package origin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// block is how much of a file of unknown size is asked for first, and what a large one is read by after that.
const block = 1 << 20

// head is the beginning of a file of unknown size, or all of it.
type head struct {
	path  string
	limit int64
	whole bool // in one answer
	check func([]byte, *site) error

	mu   sync.Mutex
	data []byte
	size int64 // of the file
	over bool
}

func (h *head) done() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.over
}

func (h *head) try(ctx context.Context, a *attempt) error {
	c, err := a.site.open(ctx, want{path: h.path, to: min(block, h.limit), size: -1, whole: h.whole, fresh: a.fresh, meter: a}, a.site)
	if err != nil {
		return err
	}
	defer c.close()
	if c.size > h.limit {
		return failed(bad, fault.Backend, "%s has %d bytes; %d are the limit", h.path, c.size, h.limit).hinted(hintStore)
	}
	data, err := readUpTo(c, h.limit)
	if err != nil {
		return err
	}
	if int64(len(data)) > h.limit {
		return failed(bad, fault.Backend, "%s goes on after %d bytes, which is the limit", h.path, h.limit).hinted(hintStore)
	}
	size := c.size
	if c.all {
		size = int64(len(data))
	}
	if h.check != nil {
		if err := h.check(data, a.site); err != nil {
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.data, h.size, h.over = data, size, true
		a.complete()
	}
	return nil
}

// readUpTo reads to the end, or until it is clear that there is more than the limit. Memory is taken as the bytes come: what a server
// says of the length is no reason to.
func readUpTo(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	_, err := b.ReadFrom(io.LimitReader(r, limit+1))
	return b.Bytes(), err
}

// file gets a whole file of at most limit bytes, whatever it holds: its head, and then the rest by pieces.
func (s *Set) file(ctx context.Context, what, path string, limit int64, only *site) ([]byte, error) {
	h := &head{path: path, limit: limit}
	if err := s.run(ctx, &job{what: what, class: Demand, prompt: true, only: only, try: h.try, done: h.done}); err != nil {
		return nil, err
	}
	if int64(len(h.data)) == h.size {
		return h.data, nil
	}
	r := &rest{path: path, size: h.size, data: h.data}
	err := s.run(ctx, &job{what: what, class: Demand, only: only, try: r.try, done: r.done})
	r.close()
	return r.data, err
}

// rest is what follows the head of a large file. Attempts go on where the one before stopped.
type rest struct {
	path string
	size int64

	mu   sync.Mutex
	data []byte
	over bool
}

func (r *rest) done() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.data)) == r.size
}

func (r *rest) close() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
}

func (r *rest) at() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.data))
}

func (r *rest) try(ctx context.Context, a *attempt) error {
	at := r.at()
	c, err := a.site.open(ctx, want{path: r.path, from: at, to: min(r.size, at+maxSpan), size: r.size, fresh: a.fresh, meter: a}, a.site)
	if err != nil {
		return r.dispute(err, a)
	}
	defer c.close()
	buf := a.site.set.buffers.take(block)
	defer a.site.set.buffers.give(buf)
	for {
		n, err := io.ReadFull(c, (*buf)[:block])
		r.add(at, (*buf)[:n], a)
		at += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // ours: of all that was asked for
			return nil
		case err != nil:
			return err
		}
	}
}

// dispute ends the job when an origin has the file in another size than the one that gave the head: nobody knows which of them is wrong.
func (r *rest) dispute(err error, a *attempt) error {
	var f *failure
	if errors.As(err, &f) && f.size && a.race.job.only == nil && len(a.site.set.sites) > 1 {
		return &fatal{fault.Hintf(fault.New(f.kind, "%s: %s: %s", a.race.job.what, a.site.name, f.text), "%s", f.hint)}
	}
	return err
}

// add takes what is new of the bytes at an offset.
func (r *rest) add(at int64, b []byte, a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if have := int64(len(r.data)); !r.over && at <= have && at+int64(len(b)) > have {
		r.data = append(r.data, b[have-at:]...)
		if int64(len(r.data)) == r.size {
			a.complete()
		}
	}
}

// blob gets a blob. What came from several origins together and is not right is asked of one after the other, each to the end: one that
// lies about the size or the bytes must not spoil what the others give.
func (s *Set) blob(ctx context.Context, d format.Digest, limit int64) ([]byte, error) {
	what, path := "fetch blob "+d.String(), format.BlobPath(d)
	data, err := s.file(ctx, what, path, limit, nil)
	if err == nil && d.Algorithm.Of(data) == d {
		return data, nil
	}
	if err != nil && (ctx.Err() != nil || !fault.Is(err, fault.Backend) || len(s.sites) == 1) {
		return nil, err
	}
	var worst error
	for _, only := range s.byRank() {
		data, err := s.file(ctx, what, path, limit, only)
		if err == nil {
			if d.Algorithm.Of(data) == d {
				return data, nil
			}
			err = only.wrongBlob(what, len(data))
		}
		if worst == nil || fault.Is(err, fault.Corrupt) {
			worst = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, worst
}

func (s *site) wrongBlob(what string, n int) error {
	s.corrupt.Add(1)
	f := failed(corrupt, fault.Corrupt, "the %d bytes are not those of the digest", n)
	s.failed(f)
	return fault.Hintf(fault.New(fault.Corrupt, "%s: %s: %s", what, s.name, f.text), hintBytes)
}

// byRank are all origins, best first.
func (s *Set) byRank() []*site {
	r := &race{set: s, job: &job{}, strikes: make([]int, len(s.sites))}
	return r.ranked()
}
