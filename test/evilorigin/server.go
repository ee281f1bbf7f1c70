// Package evilorigin is a web server that behaves as badly as it is told to, and the tests of what the readers of images make of that.
//
// It speaks by itself: a well-behaved HTTP library would not let it say what it says.
package evilorigin

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Script is one way to behave badly. Without any of the functions the server behaves well.
type Script struct {
	Name string
	TLS  bool // serve https
	H2   bool // and HTTP/2 over it
	// Conn is given each connection as it is accepted.
	Conn func(s *Server, c net.Conn)
	// HTTP answers a request. The connection is closed when it returns false.
	HTTP func(x *Exchange) bool
}

// Server serves a store, by the script that it has at the time.
type Server struct {
	URL      string
	Requests atomic.Int64

	files  map[string][]byte
	certs  *Certs
	listen net.Listener
	script atomic.Pointer[Script]

	mu    sync.Mutex
	conns map[net.Conn]struct{} // nil: closed
	work  sync.WaitGroup
}

// Serve starts a server of files, by their paths, that behaves as script says. It ends with the test.
func Serve(t testing.TB, files map[string][]byte, certs *Certs, script *Script) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{files: files, certs: certs, listen: l, conns: map[net.Conn]struct{}{}}
	s.script.Store(script)
	s.URL = "http://" + l.Addr().String()
	if script.TLS {
		s.URL = "https://" + l.Addr().String()
	}
	s.work.Go(s.accept)
	t.Cleanup(s.Close)
	return s
}

// Behave makes it a good server from the next request on. Connections that hang go on hanging.
func (s *Server) Behave() {
	old := s.script.Load()
	s.script.Store(&Script{Name: "good", TLS: old.TLS, H2: old.H2})
}

// Close ends all connections.
func (s *Server) Close() {
	s.listen.Close()
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		c.Close()
	}
	s.work.Wait()
}

func (s *Server) accept() {
	for {
		c, err := s.listen.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.conns == nil {
			c.Close()
		} else {
			s.conns[c] = struct{}{}
			s.work.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
	}
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	script := s.script.Load()
	if script.Conn != nil {
		script.Conn(s, c)
		return
	}
	if script.TLS {
		s.serveTLS(c, script.H2)
		return
	}
	s.serveHTTP(c)
}

func (s *Server) serveTLS(c net.Conn, h2 bool) {
	tc := tls.Server(c, s.certs.config(s.certs.Good, h2))
	if err := tc.Handshake(); err != nil {
		return
	}
	if tc.ConnectionState().NegotiatedProtocol == "h2" {
		s.serveH2(tc)
		return
	}
	s.serveHTTP(tc)
}

func (s *Server) serveH2(c *tls.Conn) {
	l := &single{conn: c, ended: make(chan struct{})}
	srv := &http.Server{Handler: http.HandlerFunc(s.handler), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				close(l.ended)
			}
		}}
	_ = srv.Serve(l)
}

// single is a listener with one connection, which is there already.
type single struct {
	conn  net.Conn
	taken bool
	ended chan struct{}
}

// Accept gives the connection, and after that an error when it has ended.
func (l *single) Accept() (net.Conn, error) {
	if l.taken {
		<-l.ended
		return nil, net.ErrClosed
	}
	l.taken = true
	return l.conn, nil
}

// Addr is the connection's.
func (l *single) Addr() net.Addr { return l.conn.LocalAddr() }

// Close does nothing: the connection ends by itself.
func (l *single) Close() error { return nil }

// handler is the good server for HTTP/2.
func (s *Server) handler(w http.ResponseWriter, r *http.Request) {
	s.Requests.Add(1)
	data, ok := s.files[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	var x Exchange
	x.data = data
	x.parseRange(r.Header.Get("Range"))
	if x.Ranged {
		w.Header().Set("Content-Range", x.contentRange())
		w.WriteHeader(http.StatusPartialContent)
	}
	_, _ = w.Write(x.Part())
}

func (s *Server) serveHTTP(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		s.Requests.Add(1)
		x := &Exchange{Conn: c, Request: r, Server: s}
		x.Path = strings.TrimPrefix(r.URL.Path, "/")
		x.data, x.Found = s.files[x.Path]
		x.parseRange(r.Header.Get("Range"))
		answer := (*Exchange).Good
		if script := s.script.Load(); script.HTTP != nil {
			answer = script.HTTP
		}
		if !answer(x) {
			return
		}
	}
}

// Exchange is one request and what it asks for.
type Exchange struct {
	Conn    net.Conn
	Request *http.Request
	Server  *Server
	Path    string // without the first slash
	Found   bool
	Ranged  bool // a part was asked for

	data     []byte
	from, to int
}

func (x *Exchange) parseRange(h string) {
	x.to = len(x.data)
	var from, last int
	if n, err := fmt.Sscanf(h, "bytes=%d-%d", &from, &last); err != nil || n != 2 || from > last || from >= len(x.data) {
		return
	}
	x.Ranged, x.from, x.to = true, from, min(last+1, len(x.data))
}

func (x *Exchange) contentRange() string {
	return fmt.Sprintf("bytes %d-%d/%d", x.from, x.to-1, len(x.data))
}

// Part is the bytes that were asked for.
func (x *Exchange) Part() []byte { return x.data[x.from:x.to] }

// Write sends text as it is.
func (x *Exchange) Write(format string, args ...any) bool {
	_, err := fmt.Fprintf(x.Conn, format, args...)
	return err == nil
}

// Head sends the header that is right for what was asked for, with more lines.
func (x *Exchange) Head(lines ...string) bool {
	return x.headOf(len(x.Part()), lines...)
}

func (x *Exchange) headOf(n int, lines ...string) bool {
	status := "200 OK"
	if x.Ranged {
		status = "206 Partial Content"
		lines = append(lines, "Content-Range: "+x.contentRange())
	}
	if n >= 0 {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", n))
	}
	return x.Status(status, lines...)
}

// Status sends a status line and a header.
func (x *Exchange) Status(status string, lines ...string) bool {
	return x.Write("HTTP/1.1 %s\r\n%s\r\n", status, strings.Join(append(lines, ""), "\r\n"))
}

// Body sends bytes.
func (x *Exchange) Body(b []byte) bool {
	_, err := x.Conn.Write(b)
	return err == nil
}

// Good answers as a good server does.
func (x *Exchange) Good() bool {
	if !x.Found {
		return x.Status("404 Not Found", "Content-Length: 0")
	}
	return x.Head() && x.Body(x.Part())
}

// Stall waits until the peer has gone.
func (x *Exchange) Stall() bool {
	drain(x.Conn)
	return false
}

func drain(c net.Conn) {
	_, _ = io.Copy(io.Discard, c)
}

// Reset ends the connection by RST.
func (x *Exchange) Reset() bool {
	if tc, ok := x.Conn.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	x.Conn.Close()
	return false
}
