package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/term"

	"github.com/windlass-hpc/windlass/swagger/execstream"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// execs has the daemon upgrade the connection and hand its frames to fn.
func (d *daemon) execs(t *testing.T, fn func(spec models.ExecSpec, in *execstream.Reader, out *execstream.Writer)) {
	d.on("POST /container/5/exec", func(w http.ResponseWriter, r *http.Request) {
		var spec models.ExecSpec
		if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
			t.Error(err)
		}
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", execstream.Protocol)
		fn(spec, execstream.NewReader(bufio.NewReader(buf)), execstream.NewWriter(conn))
	})
}

// input reads all input frames up to the end of the input.
func input(t *testing.T, in *execstream.Reader) string {
	var all bytes.Buffer
	for {
		kind, p, err := in.Next()
		if err != nil {
			t.Error(err)
			return ""
		}
		if kind == execstream.Input && len(p) == 0 {
			return all.String()
		}
		all.Write(p)
	}
}

func TestExecCarriesInputOutputAndTheExitCode(t *testing.T) {
	d := newDaemon(t)
	var got models.ExecSpec
	d.execs(t, func(spec models.ExecSpec, in *execstream.Reader, out *execstream.Writer) {
		got = spec
		out.Write(execstream.Output, []byte("out:"+input(t, in)))
		out.Write(execstream.ErrorOutput, []byte("err"))
		out.Write(execstream.End, []byte(`{"exit_code":143,"exit_signal":"SIGTERM"}`))
	})
	r := d.with(t, nil, strings.NewReader("hello"), "exec", "-i", "-e", "A=1", "-u", "me", "-w", "/w", "web", "cat", "-n")
	if r.code != 143 || r.out != "out:hello" || r.err != "err" {
		t.Fatalf("got %+v", r)
	}
	want := models.ExecSpec{Command: []string{"cat", "-n"}, Env: map[string]string{"A": "1"}, User: "me", WorkingDir: "/w", Tty: new(bool)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	r = d.with(t, nil, strings.NewReader("not passed on"), "exec", "web", "cat")
	if r.out != "out:" {
		t.Fatalf("without -i: %+v", r)
	}
}

func TestExecTellsWhyItCouldNot(t *testing.T) {
	d := newDaemon(t)
	answerWith := http.HandlerFunc(nil)
	d.on("POST /container/5/exec", func(w http.ResponseWriter, r *http.Request) { answerWith(w, r) })
	answerWith = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "invalid", "no such command: nope") }
	d.windlass(t, "exec", "web", "nope").want(t, exitCannotRun, "windlass: no such command: nope")
	answerWith = func(w http.ResponseWriter, _ *http.Request) { refuse(w, 409, "bad_state", "container web is paused") }
	d.windlass(t, "exec", "web", "true").want(t, exitOwn, "windlass: container web is paused")
}

func TestExecThatBreaksOff(t *testing.T) {
	d := newDaemon(t)
	d.execs(t, func(_ models.ExecSpec, _ *execstream.Reader, out *execstream.Writer) {
		out.Write(execstream.Output, []byte("half"))
	})
	r := d.windlass(t, "exec", "web", "true")
	r.want(t, exitOwn, "the connection to the process was lost")
	if r.out != "half" {
		t.Fatalf("got %q", r.out)
	}
	d = newDaemon(t)
	d.execs(t, func(_ models.ExecSpec, _ *execstream.Reader, out *execstream.Writer) {
		out.Write(execstream.Failure, []byte(`{"code":500,"message":"the shim has gone"}`))
	})
	d.windlass(t, "exec", "web", "true").want(t, exitOwn, "windlass: the shim has gone")
}

func TestExecOnATerminalIsRawFollowsTheWindowAndGivesItBack(t *testing.T) {
	d := newDaemon(t)
	master, slave := openPTY(t)
	before, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan string, 1) // output is shown once the terminal is taken
	d.execs(t, func(spec models.ExecSpec, in *execstream.Reader, out *execstream.Writer) {
		out.Write(execstream.Output, []byte("$ "))
		within(t, shown, "output")
		if !*spec.Tty || *spec.Rows != 40 || *spec.Columns != 100 || spec.Env["TERM"] != "xterm" {
			t.Errorf("asked for %+v", spec)
		}
		if _, err := master.Write([]byte("\x03")); err != nil { // Ctrl-C is the process's, not ours
			t.Error(err)
		}
		if kind, p, err := in.Next(); kind != execstream.Input || string(p) != "\x03" || err != nil {
			t.Errorf("got frame %d, %q, %v", kind, p, err)
		}
		setSize(t, slave, 24, 80)
		if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil {
			t.Error(err)
		}
		if kind, p, err := in.Next(); kind != execstream.Resize || string(p) != `{"rows":24,"columns":80}` || err != nil {
			t.Errorf("got frame %d, %q, %v", kind, p, err)
		}
		out.Write(execstream.End, []byte(`{"exit_code":0}`))
	})
	var errs bytes.Buffer
	env := map[string]string{"WINDLASS_SOCKET": d.socket, "TERM": "xterm"}
	code := Run([]string{"windlass", "exec", "-it", "web", "bash"}, slave, writerFunc(func(p []byte) (int, error) {
		shown <- string(p)
		return len(p), nil
	}), &errs, Options{Env: func(n string) (string, bool) { v, ok := env[n]; return v, ok }})
	if code != 0 || errs.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	after, err := term.GetState(int(slave.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *before != *after {
		t.Fatal("the terminal is not as it was")
	}
}

// runs has the daemon run a container that writes a line and ends once `end` is closed.
func (d *daemon) runs(end <-chan struct{}, code int) {
	box := map[string]any{"id": 20, "name": "job", "state": "running", "command": "x"}
	d.on("POST /container", func(w http.ResponseWriter, _ *http.Request) { answer(w, 201, box) })
	d.on("GET /container/20/log", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		io.WriteString(w, "line\n")
		http.NewResponseController(w).Flush()
		<-end
	})
	d.on("GET /container/20/wait", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{"id": 20, "name": "job", "state": "exited", "exit_code": code, "command": "x"})
	})
}

func TestRunInTheForegroundAnswersTheExitCode(t *testing.T) {
	d := newDaemon(t)
	ended := make(chan struct{})
	close(ended)
	d.runs(ended, 7)
	r := d.windlass(t, "run", "--image", "/a.sqsh", "false")
	if r.code != 7 || r.out != "line\n" || r.err != "" {
		t.Fatalf("got %+v", r)
	}
}

func TestRunTellsThatTheContainerMayGoOnWhenTheDaemonHasGone(t *testing.T) {
	d := newDaemon(t)
	d.on("POST /container", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 201, map[string]any{"id": 20, "name": "job", "state": "running", "command": "x"})
	})
	d.on("GET /container/20/log", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "line\n")
	})
	r := d.windlass(t, "run", "--image", "/a.sqsh", "true")
	r.want(t, exitOwn, "follow container job: the connection to the daemon at "+d.socket+" broke; what it was asked for may go on")
	if r.out != "line\n" {
		t.Fatalf("got %q", r.out)
	}
}

func TestRunRemovesTheContainerAndStopsItWhenInterrupted(t *testing.T) {
	d := newDaemon(t)
	end, patched := make(chan struct{}), make(chan string, 2)
	d.runs(end, 137)
	d.on("PATCH /container", func(w http.ResponseWriter, r *http.Request) {
		answer(w, 200, map[string]any{"id": 20, "state": "stopping", "command": "x"})
		patched <- r.URL.RawQuery
	})
	lines := make(chan string, 1)
	out := writerFunc(func(p []byte) (int, error) { lines <- string(p); return len(p), nil })
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- Run([]string{"windlass", "run", "--rm", "--image", "/a.sqsh", "sleep"}, strings.NewReader(""), out, &errs,
			Options{Env: func(n string) (string, bool) {
				if n == "WINDLASS_SOCKET" {
					return d.socket, true
				}
				return "", false
			}})
	}()
	if within(t, lines, "the log") == "" {
		t.Fatalf("told %q; asked %v", errs.String(), d.changes())
	}
	for _, want := range []string{"id=20&state=exited", "id=20&state=exited&timeout=0"} {
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if got := within(t, patched, "the daemon to be asked"); got != want {
			t.Fatalf("asked %s, want %s", got, want)
		}
	}
	close(end)
	if got := within(t, code, "the end"); got != 137 {
		t.Fatalf("exit code %d", got)
	}
	if asked := d.changes(); asked[len(asked)-1] != "DELETE /container?force=true&id=20" {
		t.Fatal(asked)
	}
	if want := "windlass: stopping container job; interrupt again to kill it\n"; errs.String() != want {
		t.Fatalf("told %q", errs.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestEventsGoOnWhereTheConnectionBroke(t *testing.T) {
	d := newDaemon(t)
	var asked []string
	d.on("GET /event", func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		switch len(asked) {
		case 1:
			io.WriteString(w, "retry: 2000\n\n: alive\n\nid: 3\nevent: attach.ready\ndata: {\"id\":3,\"time\":\"2026-03-01T12:00:00Z\",\ndata: \"type\":\"attach.ready\",\"kind\":\"attach\",\"object\":1}\n\n")
		case 2:
			io.WriteString(w, "data: {\"id\":9,\"time\":\"2026-03-01T12:00:01Z\",\"type\":\"gap\",\"message\":\"events are\\u001b lost\"}\n\n")
		default:
			refuse(w, 410, "invalid", "enough")
		}
	})
	r := d.windlass(t, "events", "--since", "2")
	r.want(t, exitFailed, "windlass: the daemon ended the stream of events: trying again\n")
	r.want(t, exitFailed, "windlass: enough\n")
	want := "2026-03-01T12:00:00.000  3  attach.ready  attach 1\n2026-03-01T12:00:01.000  9  gap  events are\\x1b lost\n"
	if r.out != want {
		t.Fatalf("got\n%swant\n%s", r.out, want)
	}
	if diff := cmp.Diff([]string{"2", "3", "9"}, asked); diff != "" {
		t.Fatal(diff)
	}
}

func TestEventsThatAreKept(t *testing.T) {
	d := newDaemon(t)
	d.on("GET /event", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("follow") != "false" || r.Header.Get("Last-Event-ID") != "0" {
			t.Errorf("asked %s, %v", r.URL, r.Header)
		}
		io.WriteString(w, "data: {\"id\":1,\"type\":\"mount.gone\"}\n\ndata: {\"id\":2,\"type\":\"mount.gone\"}\n\n")
	})
	r := d.windlass(t, "events", "--no-follow", "-o", "json")
	r.want(t, 0, "")
	if n := strings.Count(r.out, "\n"); n != 2 || !strings.Contains(r.out, `"type":"mount.gone"`) {
		t.Fatalf("not an event a line:\n%s", r.out)
	}
}

func TestEventsEndWithTheTimeout(t *testing.T) {
	d := newDaemon(t)
	d.on("GET /event", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	began := time.Now()
	d.windlass(t, "events", "--timeout", "100ms").want(t, exitTimeout, "gave up after --timeout")
	if time.Since(began) > 5*time.Second {
		t.Fatal("late")
	}
}
