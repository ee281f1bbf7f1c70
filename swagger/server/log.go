package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func (s *Server) containerLog(w http.ResponseWriter, c *call) error {
	log, err := s.chain.OpenLog(c.Context(), *c.params.Int64("id"))
	if err != nil {
		return err
	}
	defer log.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	tail, follow := c.params.Int64("tail"), c.params.Bool("follow")
	if tail == nil && !follow {
		ranged := &rangeWriter{ResponseWriter: w}
		http.ServeContent(ranged, c.Request, "", time.Time{}, log)
		return ranged.err
	}
	var start int64
	size, err := log.Size()
	if err == nil && tail != nil {
		start, err = tailStart(log, size, *tail)
	}
	if err != nil {
		return err
	}
	if !follow {
		return copyLog(w, log, start, size)
	}
	return s.followLog(w, c, log, start)
}

// rangeWriter keeps the plain text that ServeContent answers for a bad range from the client; the error is answered as JSON instead.
type rangeWriter struct {
	http.ResponseWriter
	err error
}

func (r *rangeWriter) WriteHeader(status int) {
	switch {
	case status == http.StatusRequestedRangeNotSatisfiable:
		r.err = &statusError{status, fault.Invalid, "the log does not have the range asked for"}
	case status >= http.StatusBadRequest:
		r.err = fault.New(fault.Internal, "read the log")
	default:
		r.ResponseWriter.WriteHeader(status)
	}
}

func (r *rangeWriter) Write(p []byte) (int, error) {
	if r.err != nil {
		return len(p), nil
	}
	return r.ResponseWriter.Write(p)
}

func copyLog(w io.Writer, log container.Log, start, end int64) error {
	if _, err := log.Seek(start, io.SeekStart); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	_, err := io.CopyN(w, log, end-start)
	if errors.Is(err, io.EOF) { // it was rotated away meanwhile
		return nil
	}
	return err
}

// tailStart finds where the last n lines begin. It reads backwards, so that a long log costs no more than what is asked of it.
func tailStart(log io.ReadSeeker, size, n int64) (int64, error) {
	const chunk = 64 << 10
	if n == 0 {
		return size, nil
	}
	buf := make([]byte, chunk)
	for end := size; end > 0; {
		start := max(0, end-chunk)
		if _, err := log.Seek(start, io.SeekStart); err != nil {
			return 0, fmt.Errorf("read the log: %w", err)
		}
		part := buf[:end-start]
		if _, err := io.ReadFull(log, part); err != nil {
			return 0, fmt.Errorf("read the log: %w", err)
		}
		if end == size {
			part = bytes.TrimSuffix(part, []byte("\n")) // it ends the last line, it begins none
		}
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part[:i], '\n') {
			if n--; n == 0 {
				return start + int64(i) + 1, nil
			}
		}
		end = start
	}
	return 0, nil
}

// followLog goes on until no more can come, the client leaves or the server stops.
func (s *Server) followLog(w http.ResponseWriter, c *call, log container.Log, offset int64) error {
	ctx, cancel := s.streamContext(c.Context())
	defer cancel()
	if _, err := log.Seek(offset, io.SeekStart); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	rc := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	for last := false; ; {
		n, err := io.Copy(w, log)
		offset += n
		if err != nil {
			return fmt.Errorf("stream the log: %w", err)
		}
		if err := rc.Flush(); err != nil {
			return fmt.Errorf("stream the log: %w", err)
		}
		if last {
			return nil
		}
		err = log.WaitMore(ctx, offset)
		switch {
		case errors.Is(err, io.EOF):
			last = true // what came between the copy and now
		case ctx.Err() != nil:
			return cut(c.Context(), s)
		case err != nil:
			return fmt.Errorf("wait for more of the log: %w", err)
		}
	}
}

// cut tells why a stream was ended early: the client has gone, or the server stops, which the client sees by a connection cut short.
func cut(request context.Context, s *Server) error {
	if s.streams.Err() != nil {
		return errStopping()
	}
	return request.Err()
}
