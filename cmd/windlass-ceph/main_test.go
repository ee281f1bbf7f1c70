//go:build ceph

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/lab/servers"
)

// actVar makes another program of the test program: windlass-ceph itself, or one that has an image open.
const actVar = "WINDLASS_CEPH_TEST_ACTS"

func TestMain(m *testing.M) {
	switch os.Getenv(actVar) {
	case "windlass-ceph":
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, os.LookupEnv))
	case "holder":
		if err := hold(os.Args[1], os.Args[2], os.Args[3] == "rw"); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	netns.Main(m)
}

// hold opens an image of the pool rbd, says so, and reads its beginning whenever there is a line on stdin. It ends with stdin.
func hold(image, snapshot string, write bool) error {
	conn, err := rados.NewConn()
	if err != nil {
		return err
	}
	if err := conn.ReadConfigFile(os.Getenv("CEPH_CONF")); err != nil {
		return err
	}
	if err := conn.Connect(); err != nil {
		return err
	}
	io, err := conn.OpenIOContext("rbd")
	if err != nil {
		return err
	}
	open := rbd.OpenImageReadOnly
	if write {
		open = rbd.OpenImage
	}
	img, err := open(io, image, snapshot)
	if err != nil {
		return err
	}
	fmt.Println("open")
	line := make([]byte, 1)
	for {
		if n, err := os.Stdin.Read(line); n == 0 || err != nil {
			return nil
		}
		head := make([]byte, 16)
		if _, err := img.ReadAt(head, 0); err != nil {
			fmt.Println("error:", err)
			continue
		}
		fmt.Printf("%q\n", head)
	}
}

// lab is a cluster and a directory for the files of a test.
type lab struct {
	*testing.T
	ctx  context.Context
	ceph *servers.Ceph
	dir  string
}

// start starts a cluster. Watchers that have died are forgotten early, so that tests need not wait.
func start(t *testing.T, addr string) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "windlass-ceph")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	c, err := servers.StartCeph(ctx, servers.CephConfig{Dir: filepath.Join(dir, "ceph"), Addr: netip.MustParseAddr(addr),
		Settings: map[string]string{"osd_client_watch_timeout": "8"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return &lab{t, ctx, c, dir}
}

// in is the lab for a subtest.
func (l *lab) in(t *testing.T) *lab { return &lab{t, l.ctx, l.ceph, l.dir} }

// rbd runs Ceph's rbd, which must succeed.
func (l *lab) rbd(args ...string) string {
	l.Helper()
	out, err := l.ceph.Run(l.ctx, nil, "rbd", args...)
	if err != nil {
		l.Fatal(err)
	}
	return string(out)
}

// program is one run of windlass-ceph, or of a holder.
type program struct {
	*lab
	cmd      *exec.Cmd
	in       io.WriteCloser
	out, err output
}

func (l *lab) program(act string, args ...string) *program {
	l.Helper()
	p := &program{lab: l, cmd: exec.CommandContext(l.ctx, "/proc/self/exe", args...)}
	p.cmd.Env = append(os.Environ(), append(l.ceph.Env(), actVar+"="+act)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return p
}

func (p *program) start() *program {
	p.Helper()
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		p.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.Fatal(err)
	}
	p.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	return p
}

// wait gives the exit code.
func (p *program) wait() int {
	p.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *program) signal(sig syscall.Signal) {
	p.Helper()
	if err := unix.Kill(p.cmd.Process.Pid, sig); err != nil {
		p.Fatal(err)
	}
}

// run runs windlass-ceph and checks its exit code and that stderr holds all of want.
func (l *lab) run(code int, args []string, want ...string) *program {
	l.Helper()
	p := l.program("windlass-ceph", args...).start()
	if got := p.wait(); got != code {
		l.Errorf("windlass-ceph %s: exit code %d, want %d:\n%s%s", strings.Join(args, " "), got, code, p.out.String(), p.err.String())
	}
	for _, w := range want {
		if !strings.Contains(p.err.String(), w) {
			l.Errorf("windlass-ceph %s: %q is not in:\n%s", strings.Join(args, " "), w, p.err.String())
		}
	}
	return p
}

// hold lets another process open an image until the test or the function ends it.
func (l *lab) hold(image, snapshot string, write bool) *program {
	l.Helper()
	mode := "ro"
	if write {
		mode = "rw"
	}
	p := l.program("holder", image, snapshot, mode).start()
	p.out.await(l, "open\n")
	return p
}

// head asks a holder for the beginning of its image.
func (p *program) head() string {
	p.Helper()
	before := len(p.out.String())
	if _, err := io.WriteString(p.in, "\n"); err != nil {
		p.Fatal(err)
	}
	p.out.await(p.lab, "\n", before)
	return p.out.String()[before:]
}

// output is what a program writes; it can be waited for.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await waits until the output, after so many bytes of it, holds a text.
func (o *output) await(l *lab, text string, after ...int) {
	l.Helper()
	from := 0
	if len(after) > 0 {
		from = after[0]
	}
	late := time.After(time.Minute)
	for {
		o.mu.Lock()
		if strings.Contains(o.text.String()[from:], text) {
			o.mu.Unlock()
			return
		}
		if o.more == nil {
			o.more = make(chan struct{})
		}
		more := o.more
		o.mu.Unlock()
		select {
		case <-more:
		case <-late:
			l.Fatalf("waited for %q, and there is only:\n%s", text, o.String())
		}
	}
}
