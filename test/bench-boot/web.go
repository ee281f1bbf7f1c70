package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// web is the web server that the nodes boot from: files below a directory, and what nodes post when they are ready.
type web struct {
	dir    string
	port   int
	server *http.Server
	bytes  atomic.Int64 // sent
	ready  chan string  // what a node has posted
}

func serve(dir string) (*web, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &web{dir: dir, port: l.Addr().(*net.TCPAddr).Port, ready: make(chan string, 1)}
	w.server = &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}
	go func() {
		if err := w.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "bench-boot: the web server ended:", err)
		}
	}()
	return w, nil
}

func (w *web) Close() { _ = w.server.Close() }

// host is the server as the nodes see it: the emulator's own network leads there.
func (w *web) host() string { return fmt.Sprintf("10.0.2.2:%d", w.port) }

// url is that of a file.
func (w *web) url(file string) string { return "http://" + w.host() + "/" + file }

// forget makes ready for the next node.
func (w *web) forget() {
	select {
	case <-w.ready:
	default:
	}
	w.bytes.Store(0)
}

func (w *web) ServeHTTP(res http.ResponseWriter, r *http.Request) {
	name := path.Clean("/" + r.URL.Path)
	if name == "/ready" {
		text, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil && strings.HasPrefix(string(text), "uptime: ") {
			select {
			case w.ready <- string(text):
			default: // one that was told before
			}
		}
		return
	}
	http.ServeFile(counting{res, w}, r, filepath.Join(w.dir, name))
}

// counting counts what is sent. It has no ReadFrom, so that everything comes through Write.
type counting struct {
	http.ResponseWriter
	web *web
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.web.bytes.Add(int64(n))
	return n, err
}
