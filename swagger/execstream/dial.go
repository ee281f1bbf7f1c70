package execstream

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// maxAnswer bounds how much of an error answer is read.
const maxAnswer = 64 << 10

// Error is the server's refusal, or the failure that ended a stream.
type Error struct {
	Status  int // of the HTTP answer; 0 when it came in the stream
	Payload models.Error
}

func (e *Error) Error() string {
	if e.Payload.Message != nil && *e.Payload.Message != "" {
		return *e.Payload.Message
	}
	return fmt.Sprintf("the server answered %d %s", e.Status, http.StatusText(e.Status))
}

// Conn is the client's side of a running process.
type Conn struct {
	conn  io.ReadWriteCloser
	in    *Reader
	out   *Writer
	stop  func() bool
	ctx   context.Context
	close sync.Once
	err   error
}

// Dial starts a process by POST to url, such as http://host:8080/imageapi/v1/container/7/exec, and takes over the connection. The
// client's transport says how to connect (a unix socket, TLS); its timeout is not used. When ctx ends the connection is closed, which
// ends the process. A refusal is an *Error.
func Dial(ctx context.Context, client *http.Client, url string, spec *models.ExecSpec) (*Conn, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("write the exec request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the exec request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", Protocol)
	unbounded := *client
	unbounded.Timeout = 0
	resp, err := unbounded.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	rw, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.Header.Get("Upgrade") != Protocol {
		resp.Body.Close()
		return nil, fmt.Errorf("POST %s: the server switched to %q, not to %s", url, resp.Header.Get("Upgrade"), Protocol)
	}
	c := &Conn{conn: rw, in: NewReader(bufio.NewReaderSize(rw, 32<<10)), out: NewWriter(rw), ctx: ctx}
	c.stop = context.AfterFunc(ctx, func() { rw.Close() })
	return c, nil
}

func refusal(resp *http.Response) error {
	e := &Error{Status: resp.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if json.Unmarshal(body, &e.Payload) != nil {
		e.Payload = models.Error{Code: int64(resp.StatusCode)}
	}
	return e
}

// Stdin writes to the process; Close is the end of its input and leaves the connection open.
func (c *Conn) Stdin() io.WriteCloser { return stdin{stream{c.out, Input}} }

type stdin struct{ stream }

func (s stdin) Close() error { return s.w.Write(Input, nil) }

// Resize tells the size of the client's terminal.
func (c *Conn) Resize(rows, columns uint16) error {
	p, err := json.Marshal(Size{rows, columns})
	if err != nil {
		return err
	}
	return c.out.Write(Resize, p)
}

// Wait copies the output to the writers until the process has ended and answers how. It is called once, and may run beside writes to
// Stdin. A failure that the server tells is an *Error.
func (c *Conn) Wait(stdout, stderr io.Writer) (*models.ExecResult, error) {
	for {
		t, p, err := c.in.Next()
		if err != nil {
			return nil, c.lost(err)
		}
		switch t {
		case Output:
			_, err = stdout.Write(p)
		case ErrorOutput:
			_, err = stderr.Write(p)
		case End:
			result := &models.ExecResult{}
			if err := json.Unmarshal(p, result); err != nil {
				return nil, fmt.Errorf("%w: how the process ended: %w", ErrFrame, err)
			}
			return result, nil
		case Failure:
			e := &Error{}
			if err := json.Unmarshal(p, &e.Payload); err != nil {
				return nil, fmt.Errorf("%w: why it failed: %w", ErrFrame, err)
			}
			return nil, e
		default:
			err = fmt.Errorf("%w: type %d is not for the client", ErrFrame, t)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (c *Conn) lost(err error) error {
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the connection to the process was lost: %w", err)
}

// Close closes the connection; a process that still runs is killed by the server.
func (c *Conn) Close() error {
	c.close.Do(func() {
		c.stop()
		c.err = c.conn.Close()
	})
	return c.err
}
