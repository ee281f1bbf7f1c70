package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// enough bytes since the last failure are progress: the count of failures begins anew. Less would let a server that gives a byte a
// connection keep us for ever.
const enough = 256 << 10

// web is a source on a web server. It makes one connection after the other until the file is whole.
type web struct {
	ctx    context.Context //nolint:containedctx // belongs to one Body
	client *Client
	src    *Source
	tally  *tally
	sealed bool

	conn     *conn // nil between two connections
	lost     error // why the last connection broke, until that is dealt with
	etag     string
	modified string
	failures int
	last     int64 // tally.done when it last failed
}

func openWeb(ctx context.Context, c *Client, src *Source, t *tally, sealed bool) (*web, error) {
	w := &web{ctx: ctx, client: c, src: src, tally: t, sealed: sealed}
	if err := w.connect(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *web) Close() error {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
	}
	return nil
}

func (w *web) Read(p []byte) (int, error) {
	for {
		if err := w.recover(); err != nil {
			return 0, err
		}
		n, err := w.conn.read(p)
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, io.EOF) && (w.tally.total < 0 || w.tally.done+int64(n) == w.tally.total):
			return n, io.EOF
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
		_ = w.Close()
		w.lost = err
		if n > 0 {
			return n, nil
		}
	}
}

// recover brings a lost connection back.
func (w *web) recover() error {
	if w.lost != nil {
		if err := w.failed(w.lost, 0); err != nil {
			return err
		}
		w.lost = nil
	}
	if w.conn != nil {
		return nil
	}
	return w.connect()
}

// connect gets a connection that stands at tally.done, trying again as often as may be.
func (w *web) connect() error {
	for {
		c, err := w.begin()
		if err == nil {
			w.conn = c
			return nil
		}
		var again *retryable
		if !errors.As(err, &again) {
			if w.ctx.Err() != nil {
				return ended(w.ctx, w.src, w.tally)
			}
			return err
		}
		if err := w.failed(again.err, again.after); err != nil {
			return err
		}
	}
}

// begin makes one connection and checks that it gives the same file, from where we stand.
func (w *web) begin() (*conn, error) {
	header := http.Header{}
	if w.tally.done > 0 {
		w.askForRest(header)
	}
	c, err := w.client.get(w.ctx, w.src, header)
	if err != nil {
		return nil, err
	}
	if err := w.accept(c, header.Get("Range") != ""); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// askForRest asks for a range only when a changed file would be noticed: by the server (If-Range), or by the caller's digest.
func (w *web) askForRest(h http.Header) {
	switch {
	case w.etag != "" && w.etag[0] == '"': // a weak one, W/"…", may not be used here
		h.Set("If-Range", w.etag)
	case w.modified != "":
		h.Set("If-Range", w.modified)
	case !w.sealed:
		return
	}
	h.Set("Range", fmt.Sprintf("bytes=%d-", w.tally.done))
}

func (w *web) accept(c *conn, ranged bool) error {
	r := c.resp
	if w.tally.done > 0 {
		if e := r.Header.Get("Etag"); e != "" && w.etag != "" && e != w.etag {
			return changed(w.src, "its ETag is another")
		}
	}
	switch {
	case r.StatusCode == http.StatusPartialContent && ranged:
		return w.acceptRest(r)
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable && ranged:
		return changed(w.src, fmt.Sprintf("it has no more than %d bytes now", w.tally.done))
	case r.StatusCode != http.StatusOK:
		return w.badStatus(r)
	case w.tally.done > 0:
		return w.skip(c)
	}
	w.etag, w.modified, w.tally.total = r.Header.Get("Etag"), r.Header.Get("Last-Modified"), r.ContentLength
	return nil
}

func (w *web) acceptRest(r *http.Response) error {
	var from, to, total int64
	cr := r.Header.Get("Content-Range")
	if n, err := fmt.Sscanf(cr, "bytes %d-%d/%d", &from, &to, &total); err != nil || n != 3 {
		if n != 2 { // "bytes 5-9/*" is allowed
			return fault.New(fault.Backend, "read %s: the server answers a range with Content-Range %.80q", w.src, cr)
		}
		total = w.tally.total
	}
	if from != w.tally.done {
		return fault.New(fault.Backend, "read %s: asked to go on at byte %d the server goes on at %d", w.src, w.tally.done, from)
	}
	if w.tally.total >= 0 && total != w.tally.total {
		return changed(w.src, fmt.Sprintf("it had %d bytes and now has %d", w.tally.total, total))
	}
	w.tally.total = total
	return nil
}

// skip reads again what we have, from a server that gives only whole files, and makes sure that it is the same.
func (w *web) skip(c *conn) error {
	if l := c.resp.ContentLength; l >= 0 && w.tally.total >= 0 && l != w.tally.total {
		return changed(w.src, fmt.Sprintf("it had %d bytes and now has %d", w.tally.total, l))
	}
	sum := w.tally.fresh()
	n, err := io.CopyN(sum, readerFunc(c.read), w.tally.done)
	if err != nil {
		if errors.Is(err, io.EOF) && c.resp.ContentLength < 0 {
			return changed(w.src, fmt.Sprintf("it had more than %d bytes and now has %d", w.tally.done, n))
		}
		return w.broken(err)
	}
	if string(sum.Sum(nil)) != string(w.tally.sum.Sum(nil)) {
		return changed(w.src, fmt.Sprintf("its first %d bytes are others", n))
	}
	return nil
}

func (w *web) broken(err error) error {
	if w.ctx.Err() != nil {
		return ended(w.ctx, w.src, w.tally)
	}
	return &retryable{err: err}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
