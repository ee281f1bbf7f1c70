// Package daemon runs a real windlass daemon for a test: built from this tree, on a run directory and a socket of its own, waited for by
// its own notification, and gone with the test, with everything that it made.
package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/test/nodestate"
)

// startTimeout bounds how long a daemon may take to say that it is ready.
const startTimeout = 30 * time.Second

// Node is a run directory and what is made under it; daemons come and go on it.
type Node struct {
	t      testing.TB
	Dir    rundir.Dir
	before nodestate.State
}

// Daemon is one running process.
type Daemon struct {
	t    testing.TB
	cmd  *exec.Cmd
	http *http.Client
	log  *syncBuffer
	done chan struct{} // closed when the process has been waited for
	// Took is how long it needed to become ready.
	Took time.Duration
}

// Options are how a daemon is started.
type Options struct {
	Binaries Binaries
	Env      []string // added to ours
	Args     []string // added to those that every daemon of a test has
}

// NewNode makes a run directory below /run. When the test ends, everything under it must have gone: what is left is an error, and is
// taken away all the same.
func NewNode(t testing.TB) *Node {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "windlass-test-")
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{t: t, Dir: rundir.Dir(filepath.Join(dir, "w"))}
	n.before = n.state()
	t.Cleanup(func() { n.clear(dir) })
	return n
}

// state is what there is of this node now, files that a daemon keeps between its runs left out.
func (n *Node) state() nodestate.State {
	n.t.Helper()
	s, err := nodestate.Take(nodestate.Options{RunDir: string(n.Dir)})
	if err != nil {
		n.t.Fatal(err)
	}
	return s
}

// leftWait is how long Left waits for what goes by itself: a process that has ended until its parent has waited for it.
const leftWait = 2 * time.Second

// Left lists what is there and was not when the node was made, and does not go by itself: mounts, devices, cgroups, processes, and files
// of objects.
func (n *Node) Left() []string {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(leftWait); ; <-tick.C {
		if left := n.There(); len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// There lists what is there now and was not when the node was made.
func (n *Node) There() []string {
	n.t.Helper()
	var left []string
	for _, line := range n.before.Diff(n.state()) {
		if !n.kept(line) {
			left = append(left, line)
		}
	}
	return left
}

// kept says whether a difference is of the files and directories that stay for the next daemon.
func (n *Node) kept(line string) bool {
	chunkfs := control.PlaceIn(string(n.Dir))
	for _, p := range []string{
		n.Dir.Lock(), n.Dir.Sequence(), n.Dir.Records(), n.Dir.Mounts(), n.Dir.Scratches(), n.Dir.Containers(), string(n.Dir),
		filepath.Join(string(n.Dir), "rbd"), filepath.Join(string(n.Dir), "iscsi"),
		string(chunkfs), chunkfs.StartLock(), chunkfs.KeeperLock(), chunkfs.Log(), chunkfs.Data(), chunkfs.Mounts(),
	} {
		for _, word := range strings.Fields(line) {
			if strings.Trim(word, "/,:()") == strings.Trim(p, "/") {
				return true
			}
		}
	}
	return false
}

// Start starts a daemon and waits until it says that it is ready.
func (n *Node) Start(o Options) *Daemon {
	n.t.Helper()
	d, err := n.TryStart(o)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// TryStart is Start that gives the error.
func (n *Node) TryStart(o Options) (*Daemon, error) {
	n.t.Helper()
	if o.Binaries.Windlass == "" {
		o.Binaries = Build(n.t)
	}
	notify, err := listenNotify(filepath.Join(filepath.Dir(string(n.Dir)), "notify"))
	if err != nil {
		return nil, err
	}
	defer notify.Close()
	d := &Daemon{t: n.t, log: &syncBuffer{}, done: make(chan struct{}), http: unixClient(n.Socket())}
	args := []string{"serve", "--run-dir", string(n.Dir), "--socket-path", n.Socket(), "--shim", o.Binaries.Shim, "--log-level", "debug"}
	d.cmd = exec.Command(o.Binaries.Windlass, append(args, o.Args...)...)
	d.cmd.Env = append(os.Environ(), append([]string{"WINDLASS_CHUNKFS_CACHE=" + n.Cache()},
		append(o.Env, "NOTIFY_SOCKET="+notify.LocalAddr().String())...)...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	began := time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = d.cmd.Wait(); close(d.done) }()
	n.t.Cleanup(func() { d.Kill() })
	if err := d.ready(notify); err != nil {
		d.Kill()
		return nil, fmt.Errorf("%w\n%s", err, d.Log())
	}
	d.Took = time.Since(began)
	return d, nil
}

// Socket is where the node's daemon listens.
func (n *Node) Socket() string { return filepath.Join(filepath.Dir(string(n.Dir)), "api.sock") }

// Cache is where the chunkfs server of the node's daemon keeps images, unless its options say otherwise: a tmpfs.
func (n *Node) Cache() string { return filepath.Join(filepath.Dir(string(n.Dir)), "cache") }

// Client gives a client of its own for requests that Call does not make; its host is of no matter.
func (n *Node) Client() *http.Client {
	c := unixClient(n.Socket())
	n.t.Cleanup(c.CloseIdleConnections)
	return c
}

// ready waits for READY=1 or for the end of the process.
func (d *Daemon) ready(notify *net.UnixConn) error {
	said := make(chan error, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			k, err := notify.Read(buf)
			if err != nil {
				said <- err
				return
			}
			if bytes.Contains(buf[:k], []byte("READY=1")) {
				said <- nil
				return
			}
		}
	}()
	select {
	case err := <-said:
		return err
	case <-d.done:
		return errors.New("the daemon ended before it was ready")
	case <-time.After(startTimeout):
		return fmt.Errorf("the daemon was not ready within %s", startTimeout)
	}
}

// PID is the daemon's process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Log is what the daemon has written so far.
func (d *Daemon) Log() string { return d.log.String() }

// Done is closed when the process has ended.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Kill ends the daemon with SIGKILL and waits for its end.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	<-d.done
}

// Stop ends the daemon orderly and waits for its end; it fails the test when that takes too long or the exit code is not 0.
func (d *Daemon) Stop() {
	d.t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(startTimeout):
		d.Kill()
		d.t.Errorf("the daemon did not stop\n%s", d.Log())
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("the daemon ended with %d\n%s", code, d.Log())
	}
}

func listenNotify(path string) (*net.UnixConn, error) {
	_ = os.Remove(path)
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
}

func unixClient(socket string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 64}}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
