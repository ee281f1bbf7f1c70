package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// How long the server has for what it answers from memory, and for what it must do first. Open has what its context gives it.
const (
	askTimeout   = 3 * time.Second
	closeTimeout = 10 * time.Second
	// maxAnswer bounds what is read of an answer: the files of a large image are the longest.
	maxAnswer = 256 << 20
)

// TimeoutHeader tells the server how long its client waits: a duration as Go writes it. The server answers before that is over, and so can
// say what took so long.
const TimeoutHeader = "Windlass-Timeout"

// ErrNoServer says that nobody answers at the socket.
var ErrNoServer = errors.New("nobody answers")

// Client speaks with the server at a socket. It keeps no connection and may be used by many goroutines at once. An error has a kind
// (internal/fault): that of the server's answer; Unavailable, and ErrNoServer, when no server answers at the socket; Timeout when it took
// too long.
type Client struct{ Socket string }

// Open opens an image for a mount. It takes as long as fetching the metadata does, or the whole image in mode Direct; when ctx ends first
// the server gives up, and Close takes away what there may be.
func (c Client) Open(ctx context.Context, o Open) (Opened, error) {
	var opened Opened
	err := c.call(ctx, http.MethodPut, mountPath(o.ID), o, &opened)
	return opened, err
}

// Close gives a mount back. Closing what is not open is success.
func (c Client) Close(ctx context.Context, id string) error { return c.close(ctx, mountPath(id)) }

// Revoke is Close after an Open that was given up: the server refuses that order if it comes only now.
func (c Client) Revoke(ctx context.Context, id, order string) error {
	if order == "" {
		return c.Close(ctx, id)
	}
	return c.close(ctx, mountPath(id)+"?order="+url.QueryEscape(order))
}

func (c Client) close(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	err := c.call(ctx, http.MethodDelete, path, nil, nil)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// Abandon has the server give up the reads of a mount of mode Lazy that wait for an origin, and those that come: for a mount that the
// kernel is taking down, which waits for them. Close is still to be called. Of a mount that is not open: NotFound.
func (c Client) Abandon(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return c.call(ctx, http.MethodPost, mountPath(id)+"/abandon", nil, nil)
}

// Stats asks how a mount fares.
func (c Client) Stats(ctx context.Context, id string) (Stats, error) {
	var s Stats
	return s, c.ask(ctx, mountPath(id), &s)
}

// Files asks what was read of which file of a mount: the files by their first read, or, with latest, by their last one, latest first.
func (c Client) Files(ctx context.Context, id string, latest bool) ([]File, error) {
	var files []File
	return files, c.ask(ctx, mountPath(id)+"/files?latest="+strconv.FormatBool(latest), &files)
}

// StartTrace begins to record what is read of a mount, in place of what was recorded before.
func (c Client) StartTrace(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	return c.call(ctx, http.MethodPost, mountPath(id)+"/trace?do=start", nil, nil)
}

// StopTrace ends the recording and gives it.
func (c Client) StopTrace(ctx context.Context, id string) (format.Trace, error) {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	var t format.Trace
	return t, c.call(ctx, http.MethodPost, mountPath(id)+"/trace?do=stop", nil, &t)
}

// List gives what is open, without secrets.
func (c Client) List(ctx context.Context) ([]Open, error) {
	var all []Open
	return all, c.ask(ctx, "/v1/mounts", &all)
}

// Ping reports whether the server answers; nil when it does.
func (c Client) Ping(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return c.unreachable(err)
	}
	return conn.Close()
}

// Hold keeps the server from ending although there is no mount. It returns when the server has taken note; closing what it gives lets
// go. Reads of that end when the server does.
func (c Client) Hold(ctx context.Context) (io.ReadCloser, error) {
	hold, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end) // until the answer is there
	resp, err := c.do(hold, http.MethodGet, "/v1/hold", nil)
	if err == nil && !stop() {
		resp.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return nil, err
	}
	return &held{resp.Body, end}, nil
}

type held struct {
	io.Reader
	end context.CancelFunc
}

// Close implements io.Closer.
func (h *held) Close() error { h.end(); return nil }

func mountPath(id string) string { return "/v1/mounts/" + url.PathEscape(id) }

// ask gets what the server knows without having to do anything.
func (c Client) ask(ctx context.Context, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return c.call(ctx, http.MethodGet, path, nil, out)
}

func (c Client) call(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		if ctx.Err() != nil {
			return c.ended(ctx, method, path)
		}
		return fault.New(fault.Internal, "read the answer of the chunkfs server to %s %s: %w", method, path, err)
	}
	return nil
}

// do sends a request on a connection of its own. An answer that is an error is given as one, and its body is closed.
func (c Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode a message to the chunkfs server: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://chunkfs"+path, body)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		req.Header.Set(TimeoutHeader, time.Until(end).String())
	}
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true, DisableCompression: true,
	}
	resp, err := transport.RoundTrip(req) // the errors of http.Client would name a URL that means nothing
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, c.ended(ctx, method, path)
	case err != nil:
		return nil, c.unreachable(err)
	case resp.StatusCode >= http.StatusBadRequest:
		defer resp.Body.Close()
		return nil, answered(resp)
	}
	return resp, nil
}

// answered reads the error of an answer.
func answered(resp *http.Response) error {
	var t Trouble
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&t); err != nil || t.Message == "" {
		return fault.New(fault.Internal, "the chunkfs server answered %s to %s %s", resp.Status, resp.Request.Method, resp.Request.URL.Path)
	}
	return t.Err()
}

// ended says that the time for a request is over. The cause of ctx stays recognizable.
func (c Client) ended(ctx context.Context, method, path string) error {
	err := fmt.Errorf("the chunkfs server has not answered %s %s: %w", method, path, context.Cause(ctx))
	return fault.Hintf(err, "an origin may be slow or dead; %s says more", filepath.Join(filepath.Dir(c.Socket), logName))
}

func (c Client) unreachable(err error) error {
	return fault.Hintf(fault.New(fault.Unavailable, "ask the chunkfs server at %s: %w: %w", c.Socket, ErrNoServer, err),
		"it is started at the next mount of kind chunkfs; server.log beside the socket says why it ended")
}

// dial reaches the socket through its directory: a path of more than 107 bytes does not fit an address.
func (c Client) dial(ctx context.Context) (net.Conn, error) {
	dir, err := unix.Open(filepath.Dir(c.Socket), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Dir(c.Socket), Err: err}
	}
	defer unix.Close(dir)
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(c.Socket)))
	var op *net.OpError
	if errors.As(err, &op) {
		return nil, op.Err // without the path through /proc
	}
	return conn, err
}
