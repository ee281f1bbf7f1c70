// Package execstream carries a process's input, output and end over one connection: the frames of POST /container/{id}/exec after its
// answer 101.
//
// It owns the frames and the client's side. It starts no process, and never interprets what it carries.
package execstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Protocol is the value of the header Upgrade.
const Protocol = "windlass-exec"

// Type says what a frame carries.
type Type byte

// The types. The first two go to the server, the others to the client.
const (
	Input       Type = 0 // bytes for the process; an empty payload is the end of its input
	Output      Type = 1 // bytes of its output; an empty payload only asks whether the client is still there
	ErrorOutput Type = 2 // bytes of its error output
	End         Type = 3 // an exec_result without output; the last frame
	Resize      Type = 4 // to the server: {"rows":N,"columns":N}
	Failure     Type = 5 // an error object; the last frame
)

// MaxPayload is how long the payload of a frame may be, in bytes.
const MaxPayload = 64 << 10

const headerLen = 8

// ErrFrame is in the chain of every error about bytes that are no frame.
var ErrFrame = errors.New("not a frame of " + Protocol)

// Size is the payload of a Resize frame.
type Size struct {
	Rows    uint16 `json:"rows"`
	Columns uint16 `json:"columns"`
}

// Reader reads frames from a connection.
type Reader struct {
	r      io.Reader
	header [headerLen]byte
	buf    []byte
}

// NewReader reads from r, which should be buffered.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next reads one frame. The payload is valid until the next call. io.EOF means that the peer closed between two frames.
func (r *Reader) Next() (Type, []byte, error) {
	if _, err := io.ReadFull(r.r, r.header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, nil, fmt.Errorf("%w: the connection ended inside a header", ErrFrame)
		}
		return 0, nil, err
	}
	h := r.header
	if h[1] != 0 || h[2] != 0 || h[3] != 0 || Type(h[0]) > Failure {
		return 0, nil, fmt.Errorf("%w: header % x", ErrFrame, h)
	}
	n := binary.BigEndian.Uint32(h[4:])
	if n > MaxPayload {
		return 0, nil, fmt.Errorf("%w: %d bytes of payload, at most %d are allowed", ErrFrame, n, MaxPayload)
	}
	if cap(r.buf) < int(n) {
		r.buf = make([]byte, n, max(int(n), 4096))
	}
	r.buf = r.buf[:n]
	if _, err := io.ReadFull(r.r, r.buf); err != nil {
		return 0, nil, fmt.Errorf("%w: the connection ended inside a payload: %w", ErrFrame, err)
	}
	return Type(h[0]), r.buf, nil
}

// Writer writes frames to a connection, from any goroutine.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
}

// NewWriter writes to w, a frame with one call of Write.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write writes one frame, or several when the payload of a byte stream is longer than MaxPayload.
func (w *Writer) Write(t Type, payload []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		n := min(len(payload), MaxPayload)
		if n < len(payload) && t > ErrorOutput {
			return fmt.Errorf("%w: %d bytes of payload, at most %d are allowed", ErrFrame, len(payload), MaxPayload)
		}
		var h [headerLen]byte
		h[0] = byte(t)
		binary.BigEndian.PutUint32(h[4:], uint32(n))
		w.buf = append(append(w.buf[:0], h[:]...), payload[:n]...)
		if _, err := w.w.Write(w.buf); err != nil {
			return err
		}
		if payload = payload[n:]; len(payload) == 0 {
			return nil
		}
	}
}

// Stream is an io.Writer that writes frames of type t; an empty Write writes nothing.
func (w *Writer) Stream(t Type) io.Writer { return stream{w, t} }

type stream struct {
	w *Writer
	t Type
}

func (s stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.w.Write(s.t, p); err != nil {
		return 0, err
	}
	return len(p), nil
}
