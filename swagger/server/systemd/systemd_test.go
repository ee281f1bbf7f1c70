package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain is also the service that systemd starts, see TestSocketsAreTakenOver.
func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_FDS") == "" {
		os.Exit(m.Run())
	}
	sockets, err := Sockets()
	for _, s := range sockets {
		fmt.Printf("%s=%s/%s ", s.Name, s.Listener.Addr().Network(), s.Listener.Addr())
	}
	fmt.Printf("%v %q", err, os.Getenv("LISTEN_FDS"))
}

func TestSocketsAreTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ul, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ul.Close()
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Close()
	uf, err := ul.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer uf.Close()
	tf, err := tl.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tf.Close()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=api:https exec "$0"`, os.Args[0])
	cmd.ExtraFiles = []*os.File{uf, tf}
	out, err := cmd.CombinedOutput()
	want := fmt.Sprintf(`api=unix/%s https=tcp/%s <nil> ""`, path, tl.Addr())
	if err != nil || string(out) != want {
		t.Errorf("%s %v, want %s", out, err, want)
	}
}

func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestSystemdIsTold(t *testing.T) {
	conn := notifySocket(t)
	for want, tell := range map[string]func() error{
		"READY=1\nSTATUS=serving":       func() error { return Ready("serving") },
		"STOPPING=1":                    Stopping,
		"RELOADING=1\nMONOTONIC_USEC=1": Reloading,
	} {
		if err := tell(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, conn); !strings.HasPrefix(got, strings.TrimSuffix(want, "1")) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
}

func TestWithoutSystemdNothingHappens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	if err := errors.Join(Ready("x"), Stopping(), Reloading(), Watchdog(t.Context(), nil)); err != nil {
		t.Error(err)
	}
}

func TestTheWatchdogIsFedWhileTheDaemonLives(t *testing.T) {
	conn := notifySocket(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	var dead atomic.Bool
	asked := make(chan struct{}, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- Watchdog(ctx, func(context.Context) error {
			if dead.Load() {
				asked <- struct{}{}
				return errors.New("stuck")
			}
			return nil
		})
	}()
	for range 3 {
		if got := receive(t, conn); got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	dead.Store(true)
	<-asked
	for { // what was sent before it was dead
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 100)); err != nil {
			break
		}
	}
	<-asked
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("a dead daemon was reported alive, %d bytes", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
