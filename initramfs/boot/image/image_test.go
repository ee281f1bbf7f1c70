package image

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func quick() *fetch.Client {
	return fetch.New(fetch.Config{Timing: fetch.Timing{Pause: 10 * time.Millisecond, Longest: 20 * time.Millisecond, Tries: 3}})
}

const debian = `{"name": "n", "command": "/sbin/init", "systemd": true, "mount": {"kind": "uri", "uri": {"uri": "http://h/x", "format": "squashfs"}}}`

func TestReadAndDigest(t *testing.T) {
	var fail atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if fail.Add(-1) >= 0 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, debian)
	}))
	defer s.Close()
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(debian)))
	fail.Store(2)
	if data, _, err := Read(t.Context(), quick(), "windlass.container", s.URL, Proof{Digest: digest}); err != nil || string(data) != debian {
		t.Errorf("%q, %v", data, err)
	}
	_, _, err := Read(t.Context(), quick(), "windlass.container", s.URL+"/?key=hunter2", Proof{Digest: "sha256:" + strings.Repeat("0", 64)})
	if !fault.Is(err, fault.Corrupt) || !Hopeless(err) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a wrong digest: %v", err)
	}
	fail.Store(1 << 30)
	if _, _, err := Read(t.Context(), quick(), "windlass.container", s.URL, Proof{}); !fault.Is(err, fault.Backend) || Hopeless(err) {
		t.Errorf("a server that fails: %v", err)
	}
	if _, _, err := Read(t.Context(), quick(), "windlass.container", s.URL+"/gone", Proof{}); !fault.Is(err, fault.NotFound) || !Hopeless(err) {
		t.Errorf("no such file: %v", err)
	}
}

func TestDefinition(t *testing.T) {
	words := []string{"ds=nocloud-net;s=http://h/", "x=a b"}
	c, err := Definition([]byte(debian), words, `ds=nocloud-net;s=http://h/ "x=a b"`)
	if err != nil {
		t.Fatal(err)
	}
	if *c.Command != `/sbin/init ds=nocloud-net\;s=http://h/ 'x=a b'` || c.State != models.ContainerStateRunning || c.Labels[Label] != "yes" ||
		c.Env[LineVar] != `ds=nocloud-net;s=http://h/ "x=a b"` {
		t.Errorf("%q %+v", *c.Command, c)
	}
	if c, err = Definition([]byte("command: /bin/true\nmount: {id: 3}\nenv: {WINDLASS_CMDLINE: mine}\n"), words, "line"); err != nil || *c.Command != "/bin/true" || c.Env[LineVar] != "mine" {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{"": "empty", `{"comand": "x"}`: "did you mean command", `{"command": "x"}`: "needs command and mount", "<html>": "definition"} {
		if _, err := Definition([]byte(text), nil, ""); !Hopeless(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestKeep(t *testing.T) {
	dir := t.TempDir() + "/d"
	path, err := Keep(dir, []byte("log_level: debug\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Keep(dir, []byte("log_levle: debug\n")); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "log_level") {
		t.Errorf("%v", err)
	}
	if text, err := os.ReadFile(path); err != nil || !slices.Equal(text, []byte("log_level: debug\n")) {
		t.Errorf("what was right is to stay: %q, %v", text, err)
	}
}
