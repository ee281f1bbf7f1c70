package server

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/windlass-hpc/windlass/swagger/server/listen"
)

func TestPagesOfOthersAreKeptOut(t *testing.T) {
	_, clients, urls, _ := serve(t, &fakeChain{}, Config{})
	own := strings.TrimPrefix(urls["http"], "http://")
	port := own[strings.LastIndexByte(own, ':'):]
	for name, c := range map[string]struct {
		host, origin string
		want         int
	}{
		"curl":              {"", "", 200},
		"its own page":      {"", "http://" + own, 200},
		"localhost":         {"localhost" + port, "http://localhost" + port, 200},
		"IPv6":              {"[::1]" + port, "", 200},
		"another page":      {"", "http://evil.example", 403},
		"another port":      {"", "http://127.0.0.1:1", 403},
		"a file":            {"", "null", 403},
		"a rebound name":    {"evil.example" + port, "", 403},
		"rebound with page": {"evil.example", "http://evil.example", 403},
		"like localhost":    {"localhost.evil.example", "", 403},
	} {
		for _, method := range []string{"GET", "DELETE"} {
			req, _ := http.NewRequest(method, urls["http"]+base+"/mount?id=1", nil)
			req.Host = c.host
			if c.origin != "" {
				req.Header.Set("Origin", c.origin)
			}
			resp, err := clients["http"].Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.want {
				t.Errorf("%s: %s %d, want %d", name, method, resp.StatusCode, c.want)
			}
			if resp.StatusCode != 200 {
				errorIn(t, resp.StatusCode, resp.Header.Get("Content-Type"), resp.Body)
			}
			resp.Body.Close()
		}
	}
}

// A connection of another user, such as over a socket of systemd's with a looser mode, is answered 403.
func TestOtherUsersAreKeptOut(t *testing.T) {
	for uid, want := range map[uint32]int{0: 200, 65534: 403} {
		l := &listen.Listener{Scheme: listen.Unix}
		ctx := context.WithValue(t.Context(), listenerKey{}, l)
		ctx = context.WithValue(ctx, peerKey{}, connected{Peer: listen.Peer{UID: uid, PID: 1}})
		s, _ := newServer(t, &fakeChain{}, Config{})
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil).WithContext(ctx))
		if w.Code != want {
			t.Errorf("uid %d: %d, want %d", uid, w.Code, want)
		}
	}
}

// The kernel says who connects: a child as nobody cannot even reach the socket, and root's connection carries root's uid.
func TestTheSocketIsRootsAlone(t *testing.T) {
	s, _, _, log := serve(t, &fakeChain{}, Config{})
	path := s.Listeners()[0].Addr().String()
	cmd := exec.Command("curl", "-sS", "--unix-socket", path, "http://x/healthz")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("nobody got %s", out)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("GET /healthz HTTP/1.0\r\n\r\n"))
	buf := make([]byte, 15)
	if _, err := conn.Read(buf); err != nil || string(buf) != "HTTP/1.0 200 OK" {
		t.Fatalf("%q %v", buf, err)
	}
	busy(t, s, 0, 0)
	if !strings.Contains(log.String(), "uid=0 pid=") {
		t.Errorf("the log does not name the peer:\n%s", log)
	}
}
