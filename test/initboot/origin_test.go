//go:build guest

package initboot

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// origin is the web server that the nodes boot from; it stands at 10.0.2.2 for them.
type origin struct {
	url string

	mu      sync.Mutex
	files   map[string]func(w http.ResponseWriter, r *http.Request)
	reports []report
}

type report struct {
	MAC, Host, Stage, State, Message, Error string
}

// newOrigin starts one.
func newOrigin(t *testing.T) *origin {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	return serve(t, l, fmt.Sprintf("http://10.0.2.2:%d", port(l)))
}

// newOrigin6 starts one for guests without IPv4.
func newOrigin6(t *testing.T) *origin {
	t.Helper()
	l := listen(t, "[::1]:0")
	return serve(t, l, fmt.Sprintf("http://[fec0::2]:%d", port(l)))
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func port(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// serve serves until the test has ended; the guests know it by url.
func serve(t *testing.T, l net.Listener, url string) *origin {
	o := &origin{url: url, files: map[string]func(http.ResponseWriter, *http.Request){}}
	s := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := o.find(r.URL.Path); f != nil {
			f(w, r)
			return
		}
		http.NotFound(w, r)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	o.files["/report"] = func(_ http.ResponseWriter, r *http.Request) {
		var one report
		if err := json.NewDecoder(r.Body).Decode(&one); err != nil {
			t.Error(err)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.reports = append(o.reports, one)
	}
	return o
}

// find gives what serves the path, or, with a slash at its end, all that is below.
func (o *origin) find(path string) func(http.ResponseWriter, *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.files[path]; f != nil {
		return f
	}
	for p, f := range o.files {
		if strings.HasSuffix(p, "/") && strings.HasPrefix(path, p) {
			return f
		}
	}
	return nil
}

func (o *origin) set(path string, f func(http.ResponseWriter, *http.Request)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files[path] = f
}

func (o *origin) text(path, text string) {
	o.set(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
}

func (o *origin) file(path, file string) {
	o.set(path, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
}

// reported says whether a report of the kind has come.
func (o *origin) reported(stage, state, text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.reports {
		if r.Stage == stage && r.State == state && strings.Contains(r.Message+r.Error, text) && r.MAC == "52:54:00:12:34:56" {
			return true
		}
	}
	return false
}
