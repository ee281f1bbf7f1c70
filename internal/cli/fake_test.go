package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

// daemon is what stands in for the daemon: canned objects, and handlers that a test gives for more.
type daemon struct {
	socket string
	mux    *http.ServeMux
	mu     sync.Mutex
	asked  []string // METHOD PATH?QUERY, and the body in compact JSON
}

func newDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{socket: filepath.Join(t.TempDir(), "api.sock"), mux: http.NewServeMux()}
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(d.serve)}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	for _, kind := range []string{"container", "mount", "attach"} {
		d.on("GET /"+kind, func(w http.ResponseWriter, r *http.Request) { list(w, r, kind) })
		d.on("DELETE /"+kind, func(w http.ResponseWriter, r *http.Request) {
			for _, o := range canned(kind) {
				if fmt.Sprint(o["id"]) == r.URL.Query().Get("id") {
					answer(w, 200, o)
					return
				}
			}
			answer(w, 200, map[string]any{"id": 20, "command": "x"})
		})
	}
	return d
}

func (d *daemon) on(pattern string, h http.HandlerFunc) {
	method, path, _ := strings.Cut(pattern, " ")
	d.mux.HandleFunc(method+" /imageapi/v1"+path, h)
}

func (d *daemon) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	line := r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), "/imageapi/v1")
	if len(body) > 0 {
		var compact bytes.Buffer
		if json.Compact(&compact, body) == nil {
			line += " " + compact.String()
		}
	}
	d.mu.Lock()
	d.asked = append(d.asked, line)
	d.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	d.mux.ServeHTTP(w, r)
}

// changes gives the requests that were no GET.
func (d *daemon) changes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.asked), func(l string) bool { return strings.HasPrefix(l, "GET ") })
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	answer(w, status, map[string]any{"code": status, "kind": kind, "message": message, "request_id": "r-1"})
}

// list answers the canned objects of a kind as the daemon does.
func list(w http.ResponseWriter, r *http.Request, kind string) {
	q := r.URL.Query()
	found := slices.DeleteFunc(canned(kind), func(o map[string]any) bool {
		return q.Has("id") && fmt.Sprint(o["id"]) != q.Get("id") || q.Has("name") && o["name"] != q.Get("name") ||
			q.Has("state") && o["state"] != q.Get("state") || q.Has("kind") && o["kind"] != q.Get("kind")
	})
	if len(found) == 0 && (q.Has("id") || q.Has("name")) {
		refuse(w, 404, "not_found", "no such "+kind)
		return
	}
	answer(w, 200, found)
}

func canned(kind string) (objects []map[string]any) {
	data, err := os.ReadFile("testdata/objects.json")
	if err == nil {
		all := map[string][]map[string]any{}
		if err = json.Unmarshal(data, &all); err == nil {
			return all[kind]
		}
	}
	panic(err)
}

// now is when the tests run.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type result struct {
	code     int
	out, err string
}

// windlass runs a command line against the daemon in an English UTF-8 locale.
func (d *daemon) windlass(t *testing.T, args ...string) result {
	t.Helper()
	return d.with(t, nil, nil, args...)
}

func (d *daemon) with(t *testing.T, env map[string]string, stdin io.Reader, args ...string) result {
	t.Helper()
	all := map[string]string{"WINDLASS_SOCKET": d.socket, "LANG": "en_GB.UTF-8", "TERM": "xterm"}
	for k, v := range env {
		all[k] = v
	}
	return run(t, all, stdin, append([]string{"windlass"}, args...)...)
}

func run(t *testing.T, env map[string]string, stdin io.Reader, args ...string) result {
	t.Helper()
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	var out, errs bytes.Buffer
	code := Run(args, stdin, &out, &errs, Options{Version: "1.2.3", Commit: "abc",
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }, Now: func() time.Time { return now }})
	return result{code, out.String(), errs.String()}
}

func (r result) want(t *testing.T, code int, stderr string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.err, stderr) || stderr == "" && r.err != "" {
		t.Fatalf("exit code %d, want %d\nstderr: %s\nwant:   %s\nstdout: %s", r.code, code, r.err, stderr, r.out)
	}
}

// golden compares with a file in testdata.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Fatalf("%s is not what is shown now (-update writes it):\n%s", path, d)
	}
}
