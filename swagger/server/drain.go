package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/windlass-hpc/windlass/container"
)

// lull is how long an output must be silent, after the process has ended, to be taken as finished. A child that it left behind may
// hold the pipe open for ever.
const lull = 500 * time.Millisecond

// copier copies one output and shows whether it waits for the process or for the client.
type copier struct {
	w     io.Writer
	r     io.Reader
	since atomic.Int64 // Unix nanoseconds since when it waits for the process; 0 when it waits for the client
	done  chan struct{}
	err   error // of the client's side; valid after done
}

func newCopier(w io.Writer, r io.Reader) *copier {
	c := &copier{w: w, r: r, done: make(chan struct{})}
	c.since.Store(time.Now().UnixNano())
	return c
}

func (c *copier) run() {
	defer close(c.done)
	buf := make([]byte, 32<<10)
	for {
		c.since.Store(time.Now().UnixNano())
		n, err := c.r.Read(buf)
		c.since.Store(0)
		if n > 0 {
			if _, c.err = c.w.Write(buf[:n]); c.err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (c *copier) silent() bool {
	select {
	case <-c.done:
		return true
	default:
	}
	since := c.since.Load()
	return since != 0 && time.Since(time.Unix(0, since)) > lull
}

// drain copies the outputs until the process has ended and its output is out, and tells how it ended. When it fails the process is
// closed. It returns only once nothing of it writes any more.
func (s *Server) drain(ctx context.Context, proc container.Process, stdout, stderr io.Writer) (container.Exit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	copiers := streamsOf(proc, stdout, stderr)
	for _, c := range copiers {
		s.spawn(func() {
			c.run()
			if c.err != nil {
				cancel(c.err) // the client has gone
			}
		})
	}
	exit, err := proc.Wait(ctx)
	if err == nil {
		err = settled(ctx, copiers)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	closed := proc.Close() // ends reads that are under way
	for _, c := range copiers {
		<-c.done
		if err == nil && c.err != nil {
			err = c.err
		}
	}
	if err == nil && closed != nil && !errors.Is(closed, io.EOF) {
		err = fmt.Errorf("close the process: %w", closed)
	}
	return exit, err
}

// settled waits until each output has ended or been silent for a while.
func settled(ctx context.Context, copiers []*copier) error {
	tick := time.NewTicker(lull / 10)
	defer tick.Stop()
	for _, c := range copiers {
		for !c.silent() {
			select {
			case <-c.done:
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// spawn runs fn beside the request; a panic in it is logged, like one in the request itself.
func (s *Server) spawn(fn func()) {
	go func() {
		defer func() {
			if v := recover(); v != nil {
				s.panicked("", v)
			}
		}()
		fn()
	}()
}
