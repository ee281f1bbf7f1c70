package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/swagger/spec"
	"github.com/windlass-hpc/windlass/test/daemon"
)

func TestMain(m *testing.M) { daemon.Main(m) }

// The page shows every operation, works as its own policy allows, and asks nobody but the daemon for anything.
func TestDocumentationInABrowser(t *testing.T) {
	origin := serve(t)
	page := browse(t, origin+"/imageapi/v1/docs")
	for _, want := range append(operations(t), `data-path="/container"`, "raises system images on compute nodes") {
		if !strings.Contains(page.dom, want) {
			t.Errorf("the page does not show %s", want)
		}
	}
	for _, line := range page.console {
		if strings.Contains(line, "Content Security Policy") || strings.Contains(line, "Uncaught") {
			t.Errorf("the browser complains: %s", line)
		}
	}
	asked := map[string]bool{}
	for _, url := range page.requests {
		path, own := strings.CutPrefix(url, origin)
		if !own {
			t.Errorf("the page requested %s, which is not the daemon", url)
		}
		asked[path] = true
	}
	// What must have been asked for: else the look at the requests sees nothing.
	for _, want := range []string{"/imageapi/v1/docs", "/imageapi/v1/docs/swagger-ui-bundle.js", "/imageapi/v1/docs/swagger-ui.css", "/swagger.json"} {
		if !asked[want] {
			t.Errorf("%s was not requested, only %q", want, page.requests)
		}
	}
}

// A page that does ask somebody else is noticed: the other test could find nothing because it cannot.
func TestRequestElsewhereIsSeen(t *testing.T) {
	const elsewhere = "http://elsewhere.test/font.woff"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<img src=%q>`, elsewhere)
	}))
	defer s.Close()
	if page := browse(t, s.URL+"/"); !slices.Contains(page.requests, elsewhere) {
		t.Errorf("requests seen: %q", page.requests)
	}
}

// operations gives for each operation of the contract how the page marks it.
func operations(t *testing.T) []string {
	t.Helper()
	var contract struct {
		Paths map[string]map[string]struct {
			ID   string   `json:"operationId"`
			Tags []string `json:"tags"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(spec.JSON(), &contract); err != nil {
		t.Fatal(err)
	}
	var marks []string
	for _, methods := range contract.Paths {
		for _, op := range methods {
			marks = append(marks, fmt.Sprintf(`id="operations-%s-%s"`, op.Tags[0], op.ID))
		}
	}
	if len(marks) < 10 {
		t.Fatalf("the contract has %d operations only", len(marks))
	}
	return marks
}

// serve starts a daemon that listens on http, on the loopback, and gives its origin.
func serve(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	daemon.NewNode(t).Start(daemon.Options{Args: []string{"--scheme", "unix", "--scheme", "http", "--host", "127.0.0.1", "--port", port}})
	return "http://" + address
}

// seen is what a browser made of a page.
type seen struct {
	dom      string   // once its scripts have run
	console  []string // what the browser says of it
	requests []string // the addresses that the page made it ask for
}

// browse loads a page in a new headless Chromium, which can reach nothing but the loopback.
func browse(t *testing.T, url string) seen {
	t.Helper()
	dir := t.TempDir()
	netlog := filepath.Join(dir, "net.json")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir="+filepath.Join(dir, "profile"),
		"--enable-logging=stderr", "--log-net-log="+netlog, "--virtual-time-budget=15000", "--dump-dom", url)
	// A group of its own: what the browser starts must not outlive it, nor write to its profile while that is removed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir)
	cmd.WaitDelay = 10 * time.Second
	var stderr strings.Builder
	cmd.Stderr = &stderr
	dom, err := cmd.Output()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatalf("chromium (Debian's package chromium): %v\n%s", err, stderr.String())
	}
	s := seen{dom: string(dom)}
	for line := range strings.Lines(stderr.String()) {
		if strings.Contains(line, "CONSOLE") {
			s.console = append(s.console, strings.TrimSpace(line))
		}
	}
	if s.requests, err = requested(netlog); err != nil {
		t.Fatal(fmt.Errorf("chromium's log of requests: %w", err))
	}
	return s
}
