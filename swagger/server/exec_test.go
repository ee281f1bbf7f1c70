package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/execstream"
	"github.com/windlass-hpc/windlass/swagger/models"
)

const execPath = base + "/container/7/exec"

// soon fails the test when a channel stays silent.
func soon[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not happen", what)
		panic("unreachable")
	}
}

func TestExecStream(t *testing.T) {
	chain := &fakeChain{}
	_, clients, urls, _ := serve(t, chain, Config{})
	for scheme, client := range clients {
		t.Run(scheme, func(t *testing.T) {
			chain.process = newProcess(3).echo()
			conn, err := execstream.Dial(t.Context(), client, urls[scheme]+execPath, &models.ExecSpec{Command: []string{"cat"}})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.Resize(24, 80); err != nil {
				t.Fatal(err)
			}
			input := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
			go func() {
				conn.Stdin().Write(input)
				conn.Stdin().Close()
			}()
			var stdout, stderr bytes.Buffer
			result, err := conn.Wait(&stdout, &stderr)
			if err != nil || result.ExitCode != 3 {
				t.Fatalf("%+v %v", result, err)
			}
			if !bytes.Equal(stdout.Bytes(), input) || stderr.String() != "started\n" {
				t.Errorf("%d bytes of output, error output %q", stdout.Len(), stderr.String())
			}
			if size := soon(t, "the resize", chain.process.sizes); size != [2]uint16{24, 80} {
				t.Errorf("size %v", size)
			}
			soon(t, "the close", chain.process.closed)
		})
	}
}

func TestExecEndsWithItsClient(t *testing.T) {
	chain := &fakeChain{}
	_, clients, urls, _ := serve(t, chain, Config{})
	for scheme, client := range clients {
		chain.process = newProcess(0) // it never ends, reads nothing and says nothing
		conn, err := execstream.Dial(t.Context(), client, urls[scheme]+execPath, &models.ExecSpec{Command: []string{"sleep"}})
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		soon(t, "the end of the process over "+scheme, chain.process.closed)
	}
}

func TestExecEndsWithTheClientsContext(t *testing.T) {
	chain := &fakeChain{process: newProcess(0)}
	_, clients, urls, _ := serve(t, chain, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := execstream.Dial(ctx, clients["unix"], urls["unix"]+execPath, &models.ExecSpec{Command: []string{"sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := conn.Wait(io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	soon(t, "the end of the process", chain.process.closed)
}

// A client may close its sending half, as netcat does at the end of its input, and still read what comes.
func TestExecHalfClosed(t *testing.T) {
	chain := &fakeChain{}
	s, _, _, _ := serve(t, chain, Config{})
	for _, l := range s.Listeners()[:2] { // unix and http
		chain.process = newProcess(5).echo()
		conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body := `{"command":["cat"]}`
		var frames bytes.Buffer
		execstream.NewWriter(&frames).Write(execstream.Input, []byte("hello"))
		io.WriteString(conn, "POST "+execPath+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"+
			"Connection: Upgrade\r\nUpgrade: windlass-exec\r\n\r\n"+body+frames.String())
		conn.(interface{ CloseWrite() error }).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 101 ") || !strings.Contains(string(answer), "hello") ||
			!strings.Contains(string(answer), `{"exit_code":5}`) {
			t.Errorf("%s: %q %v", l.Scheme, answer, err)
		}
	}
}

func TestExecBadFramesEndIt(t *testing.T) {
	chain := &fakeChain{process: newProcess(0)}
	s, _, _, _ := serve(t, chain, Config{})
	conn, err := net.Dial("unix", s.Listeners()[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST "+execPath+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"+
		"Connection: keep-alive, Upgrade\r\nUpgrade: windlass-exec\r\n\r\n"+`{"command":["cat"]}`+"\x09nonsense")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), `"code":400`) || !strings.Contains(string(answer), "not a frame") {
		t.Errorf("%q %v", answer, err)
	}
	soon(t, "the end of the process", chain.process.closed)
}

func TestExecRefusalsAreJSON(t *testing.T) {
	chain := &fakeChain{err: fault.New(fault.BadState, "container 7 does not run")}
	_, clients, urls, _ := serve(t, chain, Config{})
	_, err := execstream.Dial(t.Context(), clients["unix"], urls["unix"]+execPath, &models.ExecSpec{Command: []string{"x"}})
	var refused *execstream.Error
	if !errors.As(err, &refused) || refused.Status != 409 || refused.Payload.Kind != "bad_state" || err.Error() != "container 7 does not run" {
		t.Errorf("got %v", err)
	}
	_, err = execstream.Dial(t.Context(), clients["unix"], urls["unix"]+execPath, &models.ExecSpec{})
	if !errors.As(err, &refused) || refused.Status != 422 {
		t.Errorf("got %v", err)
	}
	req, _ := http.NewRequest("POST", urls["http"]+execPath, strings.NewReader(`{"command":["x"]}`))
	req.Header = http.Header{"Content-Type": {"application/json"}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	resp, err := clients["http"].Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if e := errorIn(t, resp.StatusCode, resp.Header.Get("Content-Type"), resp.Body); resp.StatusCode != 400 {
		t.Errorf("websocket: %d %s", resp.StatusCode, *e.Message)
	}
}

func TestExecPlain(t *testing.T) {
	chain := &fakeChain{}
	s, _ := newServer(t, chain, Config{})
	run := func(p *fakeProcess) string {
		chain.process = p
		w := ask(s.Handler(), "POST", execPath, "application/json", `{"command":["x"]}`)
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		soon(t, "the close", p.closed)
		return strings.TrimSpace(w.Body.String())
	}
	if got := run(newProcess(2).echo()); got != `{"exit_code":2,"stderr":"started\n","stdout":""}` {
		t.Errorf("got %s", got)
	}
	long := newProcess(0)
	long.exit = container.Exit{Code: 137, Signal: "SIGKILL"}
	go func() {
		long.outW.Write(bytes.Repeat([]byte("x"), maxOutput+10))
		long.finish()
	}()
	if got := run(long); len(got) > maxOutput+200 || !strings.Contains(got, `"truncated":true`) || !strings.Contains(got, `"exit_signal":"SIGKILL"`) {
		t.Errorf("got %d bytes: %.100s", len(got), got)
	}
}

// A child that is left behind holds the output open; the answer does not wait for it.
func TestExecDoesNotWaitForWhoHoldsTheOutput(t *testing.T) {
	chain := &fakeChain{process: newProcess(0)}
	s, _ := newServer(t, chain, Config{})
	go func() {
		io.WriteString(chain.process.outW, "done\n")
		chain.process.end.Do(func() { close(chain.process.ended) }) // the outputs stay open
	}()
	if w := ask(s.Handler(), "POST", execPath, "application/json", `{"command":["x"]}`); !strings.Contains(w.Body.String(), `"stdout":"done\n"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestShutdownEndsStreamsAndWaitsForTheRest(t *testing.T) {
	chain := &fakeChain{process: newProcess(0), console: newLog("one\n"), hang: make(chan struct{})}
	chain.waits = func(ctx context.Context) (*models.Container, error) {
		<-ctx.Done()
		return nil, fault.New(fault.Timeout, "wait: %w", ctx.Err())
	}
	s, clients, urls, _ := serve(t, chain, Config{})
	conn, err := execstream.Dial(t.Context(), clients["http"], urls["http"]+execPath, &models.ExecSpec{Command: []string{"sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	execEnd := make(chan error, 1)
	go func() {
		_, err := conn.Wait(io.Discard, io.Discard)
		execEnd <- err
	}()
	statuses := map[string]chan int{}
	for _, path := range []string{"/container/7/wait", "/event", "/container/7/log?follow=true"} {
		statuses[path] = get(t, clients["http"], urls["http"]+base+path)
	}
	created := make(chan int, 1)
	go func() {
		resp, err := clients["unix"].Post(urls["unix"]+base+"/attach", "application/json", strings.NewReader(disk))
		if err != nil {
			created <- 0
			return
		}
		resp.Body.Close()
		created <- resp.StatusCode
	}()
	busy(t, s, 4, 1)
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	var ended *execstream.Error
	if err := soon(t, "the end of exec", execEnd); !errors.As(err, &ended) || ended.Payload.Code != 503 {
		t.Errorf("exec ended with %v", err)
	}
	for path, want := range map[string]int{"/container/7/wait": 503, "/event": 200, "/container/7/log?follow=true": 200} {
		if got := soon(t, "the end of "+path, statuses[path]); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	close(chain.hang)
	if got := soon(t, "the answer", created); got != 201 {
		t.Errorf("the running request was answered %d", got)
	}
	if err := soon(t, "the end", down); err != nil {
		t.Error(err)
	}
}

// get asks and gives the status once the whole answer is there.
func get(t testing.TB, client *http.Client, url string) chan int {
	out := make(chan int, 1)
	go func() {
		resp, err := client.Get(url)
		if err != nil {
			t.Errorf("GET %s: %v", url, err)
			out <- 0
			return
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		out <- resp.StatusCode
	}()
	return out
}

// busy waits until so many streams and changes run.
func busy(t testing.TB, s *Server, streams, changes int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for len(s.budgets[stream].slots) != streams || len(s.budgets[change].slots) != changes {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams and %d changes run, want %d and %d", len(s.budgets[stream].slots), len(s.budgets[change].slots), streams, changes)
		}
		time.Sleep(time.Millisecond) // there is no event for it
	}
}
