package origin

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/redact"
)

const (
	maxRedirects = 5
	maxHeader    = 64 << 10 // bytes of the header of an answer
	maxDrain     = 4 << 10  // bytes that are read to keep a connection
)

// web is a store behind a web server.
type web struct {
	base  *url.URL // without user
	agent string
	auth  string // the Authorization header, or ""
	// RoundTrip of the transports is called, and no http.Client: that one quotes in its errors what a server redirects to.
	kept   *http.Transport
	fresh  *http.Transport // makes a new connection for each request
	conns  *conns
	timing Timing
	limits Limits
}

func newWeb(c Config, u *url.URL, o Options) (*web, secrets, error) {
	pool, err := c.pool("origin")
	if err != nil {
		return nil, nil, err
	}
	user, password := c.Username, c.Password
	if u.User != nil {
		user = u.User.Username()
		password, _ = u.User.Password()
	}
	base := *u
	base.User = nil
	if base.Path == "" {
		base.Path = "/"
	}
	w := &web{base: &base, agent: o.UserAgent, timing: o.Timing, limits: o.Limits, conns: newConns(o.Timing.Connect)}
	hidden := secrets{}
	hide := func(s ...string) {
		for _, s := range s {
			if s != "" {
				hidden = append(hidden, s)
			}
		}
	}
	switch {
	case c.Token != "":
		w.auth = "Bearer " + c.Token
		hide(c.Token)
	case user != "" || password != "":
		both := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		w.auth = "Basic " + both
		hide(both, password)
	}
	hide(base.RawQuery)
	for _, values := range base.Query() {
		hide(values...)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	w.kept, w.fresh = w.transport(config), w.transport(config)
	w.fresh.DisableKeepAlives = true
	return w, hidden, nil
}

func (w *web) transport(config *tls.Config) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            w.conns.dial,
		TLSHandshakeTimeout:    w.timing.Connect,
		TLSClientConfig:        config.Clone(),
		ResponseHeaderTimeout:  w.timing.Header,
		MaxResponseHeaderBytes: maxHeader,
		MaxIdleConnsPerHost:    int(w.limits.Idle),
		IdleConnTimeout:        time.Minute,
		// A digest is over the bytes as they are, and a small answer must not unpack into a huge one.
		DisableCompression: true,
		Protocols:          &protocols,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     4 << 20,
			MaxReceiveBufferPerConnection: 16 << 20,
			SendPingTimeout:               w.timing.Stall / 2,
			PingTimeout:                   w.timing.Stall / 2,
		},
	}
}

func (w *web) close() {
	w.conns.closeAll()
	w.kept.CloseIdleConnections()
	w.fresh.CloseIdleConnections()
}

// forget closes the connections that are at rest: the next request is made over a new one, perhaps to another server behind the address.
func (w *web) forget() { w.kept.CloseIdleConnections() }

var errNoAnswer = errors.New("no answer")

// open asks for what is wanted and looks at the header of the answer.
func (w *web) open(ctx context.Context, wt want, s *site) (*content, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	limit := 2*w.timing.Connect + w.timing.Header
	clock := time.AfterFunc(limit, func() { cancel(errNoAnswer) })
	began := time.Now()
	resp, err := w.follow(ctx, wt, s)
	if !clock.Stop() && err == nil {
		_ = resp.Body.Close()
		err = errNoAnswer
	}
	if err != nil {
		defer cancel(nil)
		var f *failure
		if errors.As(err, &f) {
			return nil, f
		}
		if errors.Is(context.Cause(ctx), errNoAnswer) {
			return nil, failed(again, fault.Timeout, "no answer within %v", limit).hinted(hintSlow)
		}
		return nil, connError(s, err)
	}
	s.answer(time.Since(began))
	st := &stream{resp: resp, ctx: ctx, cancel: cancel, meter: wt.meter, stall: w.timing.Stall, enough: w.limits.Progress}
	c, err := accept(wt, resp, st, s)
	if err != nil {
		st.drop()
		return nil, err
	}
	return c, nil
}

// follow makes the request, and those that the server redirects to.
func (w *web) follow(ctx context.Context, wt want, s *site) (*http.Response, error) {
	u := w.base.JoinPath(wt.path)
	for range maxRedirects + 1 {
		resp, err := w.one(ctx, u, wt)
		if err != nil || !isRedirect(resp.StatusCode) {
			return resp, err
		}
		drain(resp)
		if u, err = target(u, resp, s); err != nil {
			return nil, err
		}
	}
	return nil, failed(bad, fault.Backend, "more than %d redirects", maxRedirects).hinted(hintStore)
}

// one makes a single request. Credentials go only to the server that they were given for.
func (w *web) one(ctx context.Context, u *url.URL, wt want) (*http.Response, error) {
	req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}}).WithContext(ctx)
	req.Header.Set("User-Agent", w.agent)
	req.Header.Set("Accept", "*/*")
	req.Header.Set("Accept-Encoding", "identity")
	if !wt.whole {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", wt.from, wt.to-1))
	}
	if w.auth != "" && u.Scheme == w.base.Scheme && u.Host == w.base.Host {
		req.Header.Set("Authorization", w.auth)
	}
	if wt.fresh {
		return w.fresh.RoundTrip(req)
	}
	return w.kept.RoundTrip(req)
}

func isRedirect(code int) bool {
	switch code {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// target reads where a redirect leads and refuses what is no web address or is less safe than what was asked for.
func target(from *url.URL, resp *http.Response, s *site) (*url.URL, error) {
	to := resp.Header.Get("Location")
	next, err := from.Parse(to)
	if err != nil || to == "" {
		return nil, failed(bad, fault.Backend, "the server redirects (%d) to what is no URL", resp.StatusCode)
	}
	next.User, next.Fragment, next.RawFragment = nil, "", ""
	switch {
	case (next.Scheme != "http" && next.Scheme != "https") || next.Hostname() == "":
		return nil, failed(refused, fault.Backend, "the server redirects to %s: only http and https are followed", s.secrets.quote(redact.URL(next.String())))
	case from.Scheme == "https" && next.Scheme == "http":
		return nil, failed(refused, fault.Backend, "the server redirects from https to %s: that would give up encryption", s.secrets.quote(redact.URL(next.String())))
	}
	return next, nil
}

// drain keeps the connection where that costs little.
func drain(resp *http.Response) {
	if resp.ContentLength >= 0 && resp.ContentLength <= maxDrain {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain+1)
	}
	_ = resp.Body.Close()
}

// connError sorts what the transport says of a connection.
func connError(s *site, err error) *failure {
	var cert *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var timeout net.Error
	var op *net.OpError
	text := s.secrets.scrub(err.Error())
	switch {
	case errors.As(err, &cert):
		return failed(refused, fault.Backend, "%.300s", text).hinted(hintCert)
	case errors.As(err, &plain):
		return failed(refused, fault.Backend, "%.300s", text).hinted(hintPlain)
	case errors.As(err, &op) && op.Op == "remote error": // an alert of TLS
		return failed(bad, fault.Backend, "%.300s", text).hinted(hintCert)
	case errors.As(err, &timeout) && timeout.Timeout(), strings.Contains(text, "http2: client connection lost"): // no answer to pings
		return failed(again, fault.Timeout, "%.300s", text).hinted(hintSlow)
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), closedIdle(err):
		return failed(again, fault.Unavailable, "%.300s", text).hinted(hintSlow)
	}
	return failed(again, fault.Backend, "%.300s", text).hinted(hintSlow)
}

// closedIdle knows a connection that the server closed before our request was on it. net/http gives that error no name.
func closedIdle(err error) bool {
	return strings.Contains(err.Error(), "http: server closed idle connection")
}
