//go:build ceph

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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
	for line := range strings.Lines(p.err.String()) { // Ceph's libraries have words of their own
		if !strings.HasPrefix(line, "windlass-ceph: ") && !strings.HasPrefix(line, "See '") && !strings.HasPrefix(line, "  ") {
			l.Errorf("windlass-ceph %s: this is no word of ours: %s", strings.Join(args, " "), line)
		}
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
