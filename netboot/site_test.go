package netboot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/lab/netns"
)

// serveVar names the configuration that this program serves instead of running tests.
const serveVar = "WINDLASS_NETBOOT_TEST_SERVE"

// serveQuietVar asks for the log that a service has.
const serveQuietVar = "WINDLASS_NETBOOT_TEST_QUIET"

func TestMain(m *testing.M) {
	if path := os.Getenv(serveVar); path != "" {
		os.Exit(serveForTest(path))
	}
	os.Exit(netns.Run(m.Run))
}

func serveForTest(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := logrus.New()
	log.SetOutput(os.Stderr)
	if os.Getenv(serveQuietVar) == "" {
		log.SetLevel(logrus.DebugLevel)
	}
	site, scripts, err := Load(path)
	if err == nil {
		err = Serve(ctx, Options{Site: site, Scripts: scripts, Log: log})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "failed:", err)
		return 1
	}
	return 0
}

const (
	patience   = 60 * time.Second
	serverAddr = "10.1.0.1"
)

// bench is a wire: a bridge with the server's address, to which nodes are plugged.
type bench struct {
	dir, bridge string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir(), bridge: "br0"}
	run(t, "ip", "link", "add", b.bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0")
	t.Cleanup(func() { run(t, "ip", "link", "del", b.bridge) })
	run(t, "ip", "address", "add", serverAddr+"/24", "dev", b.bridge)
	run(t, "ip", "link", "set", b.bridge, "up")
	for name, size := range map[string]int{"files/linux/vmlinuz": 300_000, "files/base.img": 70_001, "images/debian.sqsh": 1 << 20, "ipxe/undionly.kpxe": 74_213,
		"boot/ipxe.efi": 200_000, "secret": 10} {
		path := filepath.Join(b.dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, content(name, size), 0o644))
	}
	must(t, os.Symlink(filepath.Join(b.dir, "boot/ipxe.efi"), filepath.Join(b.dir, "ipxe/ipxe.efi"))) // as Debian does
	must(t, os.Symlink("../secret", filepath.Join(b.dir, "files/out")))
	return b
}

// content is bytes that differ from place to place.
func content(name string, size int) []byte {
	line := name + " 0123456789abcdef\n"
	return []byte(strings.Repeat(line, size/len(line)+1))[:size]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// site is the configuration of most tests; more stands behind it.
func (b *bench) site(t *testing.T, mode, pool, more string) string {
	t.Helper()
	path := filepath.Join(b.dir, "netboot.yaml")
	must(t, os.WriteFile(path, []byte(fmt.Sprintf(`
state_dir: state
http: {listen: ":8080"}
interfaces:
  - {name: br0, mode: %s}
subnets:
  - subnet: 10.1.0.0/24
    ranges: [%s]
    router: 10.1.0.254
    dns: [10.1.0.253]
    domain: cluster.test
    lease_time: 10m
files: files
images: images
ipxe: {dir: ipxe}
groups:
  compute:
    kernel: linux/vmlinuz
    initramfs: [base.img]
    command_line: console=ttyS0 windlass.container={{image . "debian.yaml"}}
nodes:
  - {name: n1, mac: "52:54:00:00:00:01", ip: 10.1.0.11, group: compute}
  - {name: n2, mac: "52:54:00:00:00:02", group: compute}
  - {name: n3, mac: "52:54:00:00:00:03", group: compute}
%s`, mode, pool, more)), 0o644))
	return path
}

// service is a server that runs as a process of its own.
type service struct {
	cmd  *exec.Cmd
	log  *logged
	done chan struct{}
}

// serve starts a server and waits until it is ready.
func (b *bench) serve(t *testing.T, config string) *service {
	t.Helper()
	s := start(t, []string{serveVar + "=" + config}, "/proc/self/exe")
	s.log.wait(t, "netboot is ready")
	return s
}

// start starts a program; what it says is kept, and shown when the test fails.
func start(t *testing.T, env []string, args ...string) *service {
	t.Helper()
	s := &service{cmd: exec.Command(args[0], args[1:]...), log: newLogged(), done: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	must(t, err)
	s.cmd.Stdout, s.cmd.Stderr = w, w
	must(t, s.cmd.Start())
	w.Close()
	go func() { s.log.copy(r); close(s.done) }()
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		<-s.done
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(args, " "), s.log.text())
		}
	})
	return s
}

func (s *service) kill(t *testing.T, sig syscall.Signal) {
	t.Helper()
	must(t, s.cmd.Process.Signal(sig))
	err := s.cmd.Wait()
	<-s.done
	if sig == syscall.SIGTERM && err != nil {
		t.Errorf("a server that was told to end: %v", err)
	}
}

// logged is lines that can be waited for.
type logged struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
	ended   bool
}

func newLogged() *logged { return &logged{changed: make(chan struct{})} }

func (l *logged) copy(r io.ReadCloser) {
	defer r.Close()
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		l.mu.Lock()
		l.b.WriteString(line)
		l.ended = err != nil
		close(l.changed)
		l.changed = make(chan struct{})
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wait waits until the log holds all of the words in one line.
func (l *logged) wait(t *testing.T, words ...string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		text, changed, ended := l.b.String(), l.changed, l.ended
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			if containsAll(line, words) {
				return
			}
		}
		if ended {
			t.Fatalf("the program ended without a line with %q:\n%s", words, text)
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no line with %q came:\n%s", words, text)
		}
	}
}

func containsAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// node is a computer on the wire: a network namespace with one interface, eth0.
type node struct {
	name string
	hw   net.HardwareAddr
}

// node plugs a computer in.
func (b *bench) node(t *testing.T, name, mac string) *node {
	t.Helper()
	hw, err := net.ParseMAC(mac)
	must(t, err)
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", name) })
	run(t, "ip", "link", "add", "p-"+name, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", name)
	t.Cleanup(func() { run(t, "ip", "link", "del", "p-"+name) }) // the namespace goes later, when the last socket has gone
	run(t, "ip", "link", "set", "p-"+name, "master", b.bridge, "up")
	run(t, "ip", "-n", name, "link", "set", "eth0", "up")
	run(t, "ip", "-n", name, "link", "set", "lo", "up")
	return &node{name, hw}
}

func (n *node) address(t *testing.T, ip string) {
	t.Helper()
	run(t, "ip", "-n", n.name, "address", "replace", ip+"/24", "dev", "eth0")
}

func (n *node) run(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, append([]string{"ip", "netns", "exec", n.name}, args...)...)
}

// fails runs a command that must fail, and gives what it says.
func (n *node) fails(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", append([]string{"netns", "exec", n.name}, args...)...).CombinedOutput()
	if err == nil {
		t.Errorf("%s succeeded:\n%.200s", strings.Join(args, " "), out)
	}
	return string(out)
}

// inside calls fn on a thread that is in the node's network.
func (n *node) inside(t *testing.T, fn func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		f, err := os.Open("/run/netns/" + n.name)
		if err == nil {
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
			f.Close()
		}
		if err == nil {
			err = fn()
		}
		done <- err
	}()
	must(t, <-done)
}

// port68 listens as a DHCP client that has no address yet, and can broadcast.
func (n *node) port68(t *testing.T) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	n.inside(t, func() error {
		var err error
		if conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 68}); err != nil {
			return err
		}
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		control := raw.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "eth0"))
		})
		return errors.Join(control, err)
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}
