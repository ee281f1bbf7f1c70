package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxRedirects is as many as a browser follows in anger.
const maxRedirects = 10

// conn is one answer of a server while its body is read.
type conn struct {
	resp   *http.Response
	ctx    context.Context //nolint:containedctx // of this one request
	cancel context.CancelCauseFunc
	stall  time.Duration
	err    error // it stays: after a broken body net/http answers io.EOF, as if all were well
}

// get makes one request and follows redirects. The answer may have any status but a redirect's.
func (c *Client) get(ctx context.Context, src *Source, header http.Header) (*conn, error) {
	reqCtx, cancel := context.WithCancelCause(ctx)
	resp, err := c.follow(reqCtx, src, header)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	return &conn{resp: resp, ctx: reqCtx, cancel: cancel, stall: c.timing.Stall}, nil
}

func (c *Client) follow(ctx context.Context, src *Source, header http.Header) (*http.Response, error) {
	u := src.url
	seen := map[string]bool{}
	for range maxRedirects + 1 {
		seen[u.String()] = true
		resp, err := c.one(ctx, src, u, header)
		if err != nil {
			return nil, err
		}
		if !isRedirect(resp.StatusCode) {
			return resp, nil
		}
		_ = resp.Body.Close()
		next, err := target(src, u, resp)
		if err != nil {
			return nil, err
		}
		if seen[next.String()] {
			return nil, fault.New(fault.Backend, "read %s: the server redirects in a circle, back to %s", src, shown(next))
		}
		u = next
	}
	return nil, fault.New(fault.Backend, "read %s: more than %d redirects", src, maxRedirects)
}

// one makes a single request. The password goes only to the origin that it was given for.
func (c *Client) one(ctx context.Context, src *Source, u *url.URL, header http.Header) (*http.Response, error) {
	req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header.Clone()}).WithContext(ctx)
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Accept-Encoding", "identity")
	if src.user != nil && u.Scheme == src.url.Scheme && u.Host == src.url.Host {
		password, _ := src.user.Password()
		req.SetBasicAuth(src.user.Username(), password)
	}
	resp, err := c.http.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, connError(src, err)
	}
	return resp, nil
}

func isRedirect(code int) bool {
	switch code {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// target reads where a redirect leads and refuses what is no web address or is less safe than what was asked for.
func target(src *Source, from *url.URL, resp *http.Response) (*url.URL, error) {
	next, err := from.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, fault.New(fault.Backend, "read %s: the server redirects (%d) to what is no URL", src, resp.StatusCode)
	}
	next.User, next.Fragment, next.RawFragment = nil, "", ""
	switch {
	case (next.Scheme != "http" && next.Scheme != "https") || next.Hostname() == "":
		return nil, fault.New(fault.Backend, "read %s: the server redirects to %.200q: only http and https are followed", src, shown(next))
	case from.Scheme == "https" && next.Scheme == "http":
		return nil, fault.New(fault.Backend, "read %s: the server redirects from https to %.200q: that would give up encryption", src, shown(next))
	}
	return next, nil
}

var errStalled = errors.New("stalled")

// read reads from the body. The clock runs only while the server keeps us waiting, not while the reader does something else.
func (c *conn) read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	clock := time.AfterFunc(c.stall, func() { c.cancel(errStalled) })
	n, err := c.resp.Body.Read(p)
	clock.Stop()
	if err != nil && errors.Is(context.Cause(c.ctx), errStalled) {
		err = fmt.Errorf("no byte came for %v", c.stall)
	}
	c.err = err
	return n, err
}

func (c *conn) close() {
	c.cancel(nil)
	_ = c.resp.Body.Close()
}
