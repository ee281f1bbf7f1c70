package lazyfs

import (
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// web is a web server with a store, which can be made to fail. It keeps its address when it goes and comes back.
type web struct {
	t      *testing.T
	url    string
	dir    string
	sent   atomic.Int64 // bytes of bodies
	sick   atomic.Int32 // of 1,000 requests for blobs so many fail
	liar   atomic.Bool  // and so many bring wrong bytes
	wrong  atomic.Bool  // all of packs is wrong
	hanged atomic.Bool  // answers nothing, and keeps the connections

	mu     sync.Mutex
	server *http.Server
	ended  chan struct{} // a request that hangs ends with it
}

func serve(t *testing.T, dir string) *web {
	t.Helper()
	w := &web{t: t, dir: dir}
	w.start("127.0.0.1:0")
	t.Cleanup(w.stop)
	return w
}

func (w *web) start(address string) {
	w.t.Helper()
	l, err := net.Listen("tcp", address)
	must(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.url = "http://" + l.Addr().String()
	w.ended = make(chan struct{})
	w.server = &http.Server{Handler: w.handler(w.ended)}
	go func(s *http.Server) { _ = s.Serve(l) }(w.server)
}

// stop ends the server and all of its connections: who comes is refused.
func (w *web) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.server != nil {
		close(w.ended)
		w.server.Close()
	}
	w.server = nil
}

// back starts it again.
func (w *web) back() {
	w.t.Helper()
	w.start(strings.TrimPrefix(w.url, "http://"))
}

func (w *web) handler(ended <-chan struct{}) http.Handler {
	files := http.FileServer(http.Dir(w.dir))
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.hanged.Load() {
			select {
			case <-ended:
			case <-r.Context().Done():
			}
			return
		}
		out := &counted{ResponseWriter: rw, n: &w.sent, twist: w.wrong.Load() && strings.HasPrefix(r.URL.Path, "/blobs/")}
		if w.liar.Load() && rand.IntN(1000) < 50 {
			out.twist = true
		}
		if strings.HasPrefix(r.URL.Path, "/blobs/") && rand.Int32N(1000) < w.sick.Load() {
			if fail(rw) {
				return
			}
			out.left, out.cut = rand.IntN(20_000), true
		}
		files.ServeHTTP(out, r)
	})
}

// fail fails a request in one of several ways; false: let it begin and break off.
func fail(rw http.ResponseWriter) bool {
	switch rand.IntN(4) {
	case 0:
		http.Error(rw, "out of order", http.StatusServiceUnavailable)
	case 1:
		http.Error(rw, "it broke", http.StatusInternalServerError)
	case 2:
		if conn, _, err := rw.(http.Hijacker).Hijack(); err == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		}
	default:
		return false
	}
	return true
}

// counted counts what is sent, and may send something else.
type counted struct {
	http.ResponseWriter
	n     *atomic.Int64
	twist bool // flip a bit in all that is sent
	cut   bool // break off after left bytes
	left  int
}

func (c *counted) Write(b []byte) (int, error) {
	if c.twist && len(b) > 0 {
		b = append([]byte(nil), b...)
		b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
	}
	if c.cut && len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	n, err := c.ResponseWriter.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// unused gives a URL that nobody answers at.
func unused(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})) // bound and never listened on: it refuses
	name, err := unix.Getsockname(fd)
	must(t, err)
	a := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	return "http://" + a.String()
}
