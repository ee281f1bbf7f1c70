package contract

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-openapi/strfmt"

	"github.com/kraken-hpc/imageapi/client"
)

// programs are windlass and its shim, built from the tree above, once for all tests.
var programs string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	var err error
	if programs, err = os.MkdirTemp("", "windlass-contract-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(programs)
	build := exec.Command("go", "build", "-C", "../..", "-o", programs+"/", "./cmd/windlass", "./cmd/windlass-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// service is a daemon as the stock boot script of Kraken starts the forerunner: http on the loopback interface.
type service struct {
	*client.Imageapi
	url string
	dir string // the run directory
}

// start starts a daemon; it is stopped with the test, which fails when mounts are left.
func start(t *testing.T) *service {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "windlass-contract-")
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(programs, "windlass"), "serve", "--host", "127.0.0.1", "--scheme", "http",
		"--port", fmt.Sprint(port), "--run-dir", filepath.Join(dir, "w"), "--shim", filepath.Join(programs, "windlass-shim"))
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	ready := listen(t, filepath.Join(dir, "notify"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if left := mounted(t, dir); len(left) > 0 {
			t.Errorf("left mounted: %v\n%s", left, log.String())
			return
		}
		os.RemoveAll(dir)
	})
	select {
	case <-ready:
	case <-ended:
		t.Fatalf("the daemon ended\n%s", log.String())
	case <-time.After(30 * time.Second):
		t.Fatalf("the daemon was not ready in 30 s\n%s", log.String())
	}
	host := fmt.Sprintf("127.0.0.1:%d", port)
	cfg := client.DefaultTransportConfig().WithHost(host).WithSchemes([]string{"http"})
	return &service{client.NewHTTPClientWithConfig(strfmt.Default, cfg), "http://" + host + client.DefaultBasePath, filepath.Join(dir, "w")}
}

// listen gives a channel that is closed when the daemon says READY=1.
func listen(t *testing.T, path string) <-chan struct{} {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ready := make(chan struct{})
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			if strings.Contains(string(buf[:n]), "READY=1") {
				close(ready)
				return
			}
		}
	}()
	return ready
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// mounted lists what is mounted below a directory.
func mounted(t *testing.T, dir string) (left []string) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); strings.HasPrefix(f[4], dir+"/") {
			left = append(left, f[4])
		}
	}
	return left
}

// raw sends a request as curl would and gives the status and the body.
func (s *service) raw(t *testing.T, method, path, contentType, body string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, b.String()
}

// coded is what the generated client's default responses have.
type coded interface{ Code() int }

// status gives the HTTP status of an error of the generated client.
func status(t *testing.T, err error) int {
	t.Helper()
	var c coded
	if !errors.As(err, &c) {
		t.Fatalf("%v has no status", err)
	}
	return c.Code()
}
