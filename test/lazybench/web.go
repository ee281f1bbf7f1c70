package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// link is the network between node and web server.
type link struct {
	name string
	rtt  time.Duration
	mbit int // 0: no limit
}

// shape sets the rate of the loopback device of our own network namespace. The round trip is the web server's: netem is not in every kernel.
func (l link) shape(ctx context.Context) error {
	_ = exec.CommandContext(ctx, "tc", "qdisc", "del", "dev", "lo", "root").Run() // there may be none
	if l.mbit == 0 {
		return nil
	}
	return output(exec.CommandContext(ctx, "tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", fmt.Sprintf("%dmbit", l.mbit),
		"burst", "256kb", "latency", "200ms"))
}

// web is the web server: files below a directory, with Range, as blobs of a registry too, and late by a round trip.
type web struct {
	dir      string
	addr     string
	server   *http.Server
	rtt      atomic.Int64
	requests atomic.Int64
	bytes    atomic.Int64
}

func serveStore(work string) (*web, error) {
	w := &web{dir: filepath.Join(work, "www")}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.addr = l.Addr().String()
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: time.Minute, ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, firstKey{}, new(atomic.Bool))
	}}
	go func() {
		if err := w.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "lazybench: the web server ended:", err)
		}
	}()
	return w, nil
}

func (w *web) Close() { _ = w.server.Close() }

// counted forgets what was counted and answers what it was.
func (w *web) counted() (requests, bytes int64) { return w.requests.Swap(0), w.bytes.Swap(0) }

// firstKey finds whether a connection has had a request.
type firstKey struct{}

// late waits for as long as the way there and back takes; a connection's first request waits for the handshake too.
func (w *web) late(r *http.Request) {
	rtt := time.Duration(w.rtt.Load())
	if seen, ok := r.Context().Value(firstKey{}).(*atomic.Bool); ok && !seen.Swap(true) {
		rtt *= 2
	}
	time.Sleep(rtt)
}

func (w *web) ServeHTTP(res http.ResponseWriter, r *http.Request) {
	w.requests.Add(1)
	w.late(r)
	name := path.Clean("/" + r.URL.Path)
	switch {
	case name == "/v2":
		res.WriteHeader(http.StatusOK)
		return
	case strings.HasPrefix(name, "/v2/"): // the blobs of a registry lie by their digests
		_, digest, _ := strings.Cut(name, "sha256:")
		name = "/registry/" + path.Base(digest)
		if strings.Contains(r.URL.Path, "/manifests/") {
			name = "/registry/manifest"
			res.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		}
	}
	http.ServeFile(countingWriter{res, w}, r, filepath.Join(w.dir, name))
}

type countingWriter struct {
	http.ResponseWriter
	web *web
}

func (c countingWriter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.web.bytes.Add(int64(n))
	return n, err
}
