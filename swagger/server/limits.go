package server

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// budget bounds how many requests of a class run at a time. Others wait for their turn, but not for long.
type budget struct {
	slots   chan struct{}
	timeout time.Duration
}

func newBudget(n int, timeout time.Duration) *budget { return &budget{make(chan struct{}, n), timeout} }

func (b *budget) take(ctx context.Context) error {
	select {
	case b.slots <- struct{}{}:
		return nil
	default:
	}
	patience := time.NewTimer(b.timeout)
	defer patience.Stop()
	select {
	case b.slots <- struct{}{}:
		return nil
	case <-patience.C:
		return fault.Hintf(fault.New(fault.Unavailable, "%d requests of this sort run already, which is the limit", cap(b.slots)), "try again later")
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *budget) give() { <-b.slots }

// readBody reads a JSON body, bounded in size and time. done is called when it is no longer needed.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (_ []byte, done func(), err error) {
	if r.ContentLength > s.config.MaxBody {
		return nil, nil, s.tooLarge(w)
	}
	if err := isJSON(r); err != nil {
		return nil, nil, err
	}
	m := &metered{r: http.MaxBytesReader(nil, r.Body, s.config.MaxBody), total: &s.bodies, limit: s.config.MaxBodies}
	body, err := s.readInTime(w, m)
	if err != nil {
		m.free()
		w.Header().Set("Connection", "close") // what is left of the body is not read
		return nil, nil, err
	}
	return body, m.free, nil
}

func (s *Server) readInTime(w http.ResponseWriter, r io.Reader) ([]byte, error) {
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(s.config.BodyTimeout)) // a test's writer has none
	body, err := io.ReadAll(r)
	var large *http.MaxBytesError
	switch {
	case err == nil:
		rc.SetReadDeadline(time.Time{})
		return body, nil
	case errors.As(err, &large):
		return nil, s.tooLarge(w)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &statusError{http.StatusRequestTimeout, fault.Timeout, "the body did not come within " + s.config.BodyTimeout.String()}
	case fault.Is(err, fault.Unavailable):
		return nil, err
	}
	return nil, fault.New(fault.Invalid, "read the body: %w", err)
}

// metered counts the bytes that all bodies take together, and refuses more than a limit. Only what has come counts: a client that
// promises much and sends nothing takes nothing.
type metered struct {
	r     io.Reader
	total *atomic.Int64
	limit int64
	mine  int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.mine += int64(n)
	if m.total.Add(int64(n)) > m.limit {
		return n, fault.Hintf(fault.New(fault.Unavailable, "the bodies of all requests take more than %d bytes, which is the limit", m.limit), "try again later")
	}
	return n, err
}

func (m *metered) free() { m.total.Add(-m.mine) }

func (s *Server) tooLarge(w http.ResponseWriter) error {
	w.Header().Set("Connection", "close") // the rest of the body is not read
	return fault.New(fault.TooLarge, "the body is larger than %d bytes, which is the limit", s.config.MaxBody)
}

// isJSON refuses a body of another type; an empty body has none.
func isJSON(r *http.Request) error {
	given := r.Header.Get("Content-Type")
	if r.ContentLength == 0 && given == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(given)
	charset := strings.ToLower(params["charset"])
	if err == nil && media == "application/json" && (charset == "" || charset == "utf-8" || charset == "us-ascii") {
		return nil
	}
	what := "has no Content-Type"
	if given != "" {
		what = "is " + printable(given)
	}
	return &statusError{http.StatusUnsupportedMediaType, fault.Invalid, "the body " + what + "; send application/json in UTF-8"}
}
