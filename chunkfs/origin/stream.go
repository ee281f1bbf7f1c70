package origin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

var errStalled = errors.New("stalled")

// stream reads the body of an answer: no more than was asked for, no less, and not more slowly than is bearable.
type stream struct {
	resp   *http.Response
	ctx    context.Context //nolint:containedctx // of this one request
	cancel context.CancelCauseFunc
	skip   int64 // to be passed over first
	left   int64 // to be read; -1: all there is
	done   bool  // to the end, so that the connection can be kept
	err    error // it stays: after a broken body net/http may answer io.EOF, as if all were well

	meter  meter
	clock  *time.Timer
	stall  time.Duration // in which enough bytes must come
	enough int64
	spent  time.Duration // of stall
	came   int64         // since spent began
	total  int64
}

// Read gives io.EOF after the last byte that was asked for; that the body ends there has been checked then.
func (s *stream) Read(p []byte) (int, error) {
	for s.skip > 0 && s.err == nil {
		n, err := s.timed(p[:min(int64(len(p)), s.skip)])
		s.skip -= int64(n)
		if s.ended(err) {
			s.err = s.short()
		}
		if n > 0 {
			return 0, s.err // the caller sees that something moves
		}
	}
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	if s.left == 0 {
		s.err = s.tail()
		return 0, s.err
	}
	if s.left > 0 {
		p = p[:min(int64(len(p)), s.left)]
	}
	n, err := s.timed(p)
	if s.left > 0 {
		s.left -= int64(n)
	}
	if s.ended(err) {
		s.done = true
		if s.left > 0 {
			s.err = s.short()
		} else {
			s.err = io.EOF
		}
	}
	return n, s.err
}

func (s *stream) ended(err error) bool { return errors.Is(err, io.EOF) }

func (s *stream) short() error {
	return failed(again, fault.Unavailable, "the answer ended after %d bytes, too early", s.total).hinted(hintSlow)
}

// tail looks for the end where the end must be. A whole file that was read in the place of a part goes on, and is left there.
func (s *stream) tail() error {
	if s.resp.StatusCode == http.StatusOK && s.resp.ContentLength > s.total {
		return io.EOF
	}
	var p [1]byte
	n, err := s.timed(p[:])
	switch {
	case n > 0:
		return failed(bad, fault.Backend, "the answer goes on after the %d bytes that it should have", s.total-int64(n)).hinted(hintStore)
	case s.ended(err):
		s.done = true
		return io.EOF
	}
	return s.err
}

// timed reads while the clock runs. It stands still while the bytes are used: how slow that is says nothing of the server.
func (s *stream) timed(p []byte) (int, error) {
	p = p[:s.meter.pace(len(p))]
	if s.clock == nil {
		s.clock = time.AfterFunc(s.stall-s.spent, func() { s.cancel(errStalled) })
	} else {
		s.clock.Reset(s.stall - s.spent)
	}
	began := time.Now()
	n, err := s.resp.Body.Read(p)
	s.clock.Stop()
	s.spent += time.Since(began)
	s.came += int64(n)
	s.total += int64(n)
	s.meter.count(n)
	if s.came >= s.enough {
		s.spent, s.came = 0, 0
	}
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	if errors.Is(context.Cause(s.ctx), errStalled) {
		s.err = failed(again, fault.Timeout, "too slow: %d bytes came in the last %v, after %d", s.came, s.stall, s.total-s.came).hinted(hintSlow)
	} else {
		s.err = &broken{err: err, after: s.total}
	}
	return n, s.err
}

// broken is a connection that broke in the middle; who knows the secrets makes a failure of it.
type broken struct {
	err   error
	after int64
}

func (b *broken) Error() string { return b.err.Error() }
func (b *broken) Unwrap() error { return b.err }

// tailTime is how long the end of an answer may be behind its last byte, for the connection to be kept.
const tailTime = 200 * time.Millisecond

// finish reads the end of an answer of which everything has come, so that its connection can be used again.
func (s *stream) finish() {
	if s.err != nil || s.left != 0 {
		return
	}
	s.stall, s.spent = tailTime, 0
	_ = s.tail()
}

// drop ends the request. What has been read to the end leaves its connection for the next one.
func (s *stream) drop() {
	if !s.done {
		s.cancel(nil) // before Close, which would read on
	}
	_ = s.resp.Body.Close()
	s.cancel(nil)
}
