package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// endless is a body of n bytes that nobody holds in memory.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.n <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.n)
	for i := range p[:n] {
		p[i] = ' '
	}
	e.n -= n
	return int(n), nil
}

func TestALargeBodyIsRefusedInLittleMemory(t *testing.T) {
	_, clients, urls, _ := serve(t, &fakeChain{}, Config{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for _, length := range []int64{100 << 20, -1} { // told, and in chunks
		req, _ := http.NewRequest("POST", urls["http"]+base+"/attach", &endless{100 << 20})
		req.ContentLength = length
		req.Header.Set("Content-Type", "application/json")
		resp, err := clients["http"].Do(req)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || strings.Contains(err.Error(), "reset") || strings.Contains(err.Error(), "broken pipe") {
				continue // the client was still sending when the server had heard enough
			}
			t.Fatal(err)
		}
		e := errorIn(t, resp.StatusCode, resp.Header.Get("Content-Type"), resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 413 || !strings.Contains(*e.Message, "4194304 bytes") {
			t.Errorf("%d %s", resp.StatusCode, *e.Message)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 48<<20 {
		t.Errorf("%d MiB were allocated on the way", grown>>20)
	}
}

func TestALargeBodyIsAnsweredEvenToAClientThatOnlySends(t *testing.T) {
	s, _, _, _ := serve(t, &fakeChain{}, Config{MaxBody: 1000})
	conn, err := net.Dial("unix", s.Listeners()[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s/attach HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1001\r\n\r\n", base)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 413 || !resp.Close {
		t.Fatalf("%v %v", resp, err)
	}
}

func TestAllBodiesTogetherAreBounded(t *testing.T) {
	s, _ := newServer(t, &fakeChain{}, Config{MaxBodies: 100})
	w := ask(s.Handler(), "POST", base+"/attach", "application/json", disk+strings.Repeat(" ", 200))
	if errorIn(t, w.Code, w.Header().Get("Content-Type"), w.Body); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d", w.Code)
	}
	if w := ask(s.Handler(), "POST", base+"/attach", "application/json", disk); w.Code != 201 {
		t.Errorf("afterwards: %d %s", w.Code, w.Body)
	}
	if n := s.bodies.Load(); n != 0 {
		t.Errorf("%d bytes are counted still", n)
	}
}

func TestSlowClientsAreLetGo(t *testing.T) {
	s, _, _, _ := serve(t, &fakeChain{}, Config{HeaderTimeout: 50 * time.Millisecond, BodyTimeout: 50 * time.Millisecond, IdleTimeout: 50 * time.Millisecond})
	for name, c := range map[string]struct{ send, answer string }{
		"nothing":     {"", ""},
		"half header": {"GET / HTTP/1.1\r\nHost: x\r\n", ""},
		"half body":   {"POST " + base + "/attach HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", "HTTP/1.1 408 "},
		"idle":        {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 "},
	} {
		conn, err := net.Dial("unix", s.Listeners()[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, c.send)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer, err := io.ReadAll(conn)
		if err != nil && !strings.Contains(err.Error(), "reset") || !strings.HasPrefix(string(answer), c.answer) {
			t.Errorf("%s: %q %v", name, answer, err)
		}
	}
}

func TestAWideHeaderIsRefused(t *testing.T) {
	_, clients, urls, _ := serve(t, &fakeChain{}, Config{MaxHeader: 4096})
	req, _ := http.NewRequest("GET", urls["http"]+"/healthz", nil)
	req.Header.Set("X-Large", strings.Repeat("x", 20_000))
	resp, err := clients["http"].Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", resp.StatusCode)
	}
}

// Lists answer while creates hang, and too many creates are told to come again.
func TestListsAnswerWhileCreatesHang(t *testing.T) {
	chain := &fakeChain{hang: make(chan struct{})}
	s, clients, urls, _ := serve(t, chain, Config{MaxChanges: 3, QueueTimeout: 20 * time.Millisecond})
	var hung sync.WaitGroup
	for range 3 {
		hung.Go(func() {
			resp, err := clients["unix"].Post(urls["unix"]+base+"/attach", "application/json", strings.NewReader(disk))
			if err != nil || resp.StatusCode != 201 {
				t.Errorf("the hung create: %v %v", resp, err)
				return
			}
			resp.Body.Close()
		})
	}
	busy(t, s, 0, 3)
	w := ask(s.Handler(), "POST", base+"/attach", "application/json", disk)
	if e := errorIn(t, w.Code, w.Header().Get("Content-Type"), w.Body); w.Code != 503 || w.Header().Get("Retry-After") == "" || e.Kind != "unavailable" {
		t.Errorf("one too many: %d %+v", w.Code, e)
	}
	for _, path := range []string{"/container", "/mount", "/attach", "/info"} {
		if w := ask(s.Handler(), "GET", base+path, "", ""); w.Code != 200 {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
	if w := ask(s.Handler(), "DELETE", base+"/mount?id=1", "", ""); w.Code != 200 {
		t.Errorf("DELETE /mount: %d", w.Code)
	}
	for state, want := range map[string]int{"running": 503, "exited": 200, "paused": 200} {
		if w := ask(s.Handler(), "PATCH", base+"/container?id=1&state="+state, "", ""); w.Code != want {
			t.Errorf("a container is to be %s: %d, want %d", state, w.Code, want)
		}
	}
	close(chain.hang)
	hung.Wait()
}

func TestManyAtOnce(t *testing.T) {
	chain := &fakeChain{feed: []*models.Event{{ID: 1, Type: "x"}}, console: newLog("a\nb\n")}
	s, clients, urls, _ := serve(t, chain, Config{})
	var wrong atomic.Int64
	var all sync.WaitGroup
	for i := range 200 {
		scheme := []string{"unix", "http"}[i%2]
		all.Go(func() {
			for _, c := range []struct {
				method, path, body string
				want               int
			}{
				{"POST", "/mount", `{"tmpfs":{}}`, 201}, {"GET", "/mount", "", 200}, {"DELETE", "/mount?id=1", "", 200},
				{"GET", "/container/1/log?tail=1", "", 200}, {"GET", "/event?since=0&follow=false", "", 200}, {"POST", "/mount", `{`, 400},
			} {
				req, _ := http.NewRequest(c.method, urls[scheme]+base+c.path, strings.NewReader(c.body))
				req.Header.Set("Content-Type", "application/json")
				resp, err := clients[scheme].Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != c.want {
					wrong.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d answers had another status", n)
	}
	busy(t, s, 0, 0)
}

// A client that leaves takes its request with it.
func TestAChangeEndsWithItsClient(t *testing.T) {
	chain := &fakeChain{hang: make(chan struct{})}
	s, _, _, log := serve(t, chain, Config{})
	conn, err := net.Dial("unix", s.Listeners()[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST %s/attach HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", base, len(disk), disk)
	busy(t, s, 0, 1)
	conn.Close()
	busy(t, s, 0, 0)
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(log.String(), "status=499"); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the log says\n%s", log)
		}
	}
}
