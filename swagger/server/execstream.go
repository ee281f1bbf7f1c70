package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/execstream"
)

// How often a client is asked whether it is still there: one that sends, and one that has closed its sending half. The first may have
// gone behind input that the process does not read.
const (
	probeSending = 5 * time.Second
	probeSilent  = time.Second
)

var errGone = errors.New("the client has gone")

// execStream takes the connection over and carries the process on it.
func (s *Server) execStream(ctx context.Context, w http.ResponseWriter, c *call, proc container.Process) error {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fault.New(fault.Unsupported, "this connection cannot be upgraded: %w", err)
	}
	defer s.taken.add()()
	defer conn.Close()
	id := w.Header().Get("X-Request-Id")
	if rec, ok := w.(*recorder); ok {
		rec.taken, rec.status = true, http.StatusSwitchingProtocols
	}
	conn.SetDeadline(time.Time{})
	fmt.Fprintf(buffered, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Request-Id: %s\r\n\r\n", execstream.Protocol, id)
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := execstream.NewWriter(conn)
	defer context.AfterFunc(ctx, func() { conn.SetWriteDeadline(time.Now().Add(probeSilent)) })() // for a client that takes nothing
	s.spawn(func() { cancel(probe(ctx, out, probeSending)) })
	s.spawn(func() { cancel(s.input(ctx, conn, buffered.Reader, out, proc)) })
	exit, err := s.drain(ctx, proc, out.Stream(execstream.Output), out.Stream(execstream.ErrorOutput))
	conn.SetWriteDeadline(time.Now().Add(s.config.AnswerTimeout))
	if err == nil {
		return send(out, execstream.End, struct {
			Code   int    `json:"exit_code"`
			Signal string `json:"exit_signal,omitempty"`
		}{exit.Code, exit.Signal})
	}
	if s.streams.Err() != nil {
		err = errStopping()
	}
	_, body := errorOf(err, id)
	return errors.Join(err, send(out, execstream.Failure, body))
}

func send(out *execstream.Writer, t execstream.Type, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return out.Write(t, p)
}

// input carries frames to the process until the client has gone or says something wrong, and tells that. The end of input leaves it
// listening, for a window may still change its size and a client still leave.
func (s *Server) input(ctx context.Context, conn net.Conn, r *bufio.Reader, out *execstream.Writer, proc container.Process) error {
	frames, stdin := execstream.NewReader(r), proc.Stdin()
	for {
		t, p, err := frames.Next()
		if errors.Is(err, io.EOF) {
			stdin.Close()
			return probe(ctx, out, probeSilent)
		}
		if err != nil {
			if errors.Is(err, execstream.ErrFrame) {
				return fault.New(fault.Invalid, "%w", err)
			}
			return fmt.Errorf("%w: %w", errGone, err)
		}
		switch {
		case t == execstream.Resize:
			var size execstream.Size
			if err := json.Unmarshal(p, &size); err != nil {
				return fault.New(fault.Invalid, "the size of the window: %w", err)
			}
			proc.Resize(size.Rows, size.Columns) // one that has ended has no window
		case t == execstream.Input && len(p) == 0:
			stdin.Close()
		case t == execstream.Input:
			stdin.Write(p) // one that reads no more loses it, as in a pipe
		default:
			return fault.New(fault.Invalid, "a frame of type %d is not for the server", t)
		}
	}
}

// probe sends empty frames until that fails. A closed sending half and a closed connection look the same until something is written.
func probe(ctx context.Context, out *execstream.Writer, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if err := out.Write(execstream.Output, nil); err != nil {
			return fmt.Errorf("%w: %w", errGone, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
