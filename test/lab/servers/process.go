package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endTimeout is how long a process may take to end by itself.
const endTimeout = 10 * time.Second

// errEnded says that a process is not running.
var errEnded = errors.New("it does not run")

// process is one server process, a child of ours that dies with us. It can be started again after it has ended.
type process struct {
	name string // in messages and of its log
	argv []string
	env  []string // beside ours
	log  string   // file that gets what it writes

	mu  sync.Mutex
	run *running
}

// running is one life of a process. err is valid once done is closed.
type running struct {
	pid  int
	done chan struct{}
	err  error
}

func newProcess(dir, name string, argv ...string) *process {
	return &process{name: name, argv: argv, log: filepath.Join(dir, name+".out")}
}

// start starts the process, which must not be running.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil && !p.run.ended() {
		return fmt.Errorf("start %s: it runs already", p.name)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.env...)
	// A group of its own: what is typed at the terminal is for the tests, which then end it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	run := &running{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // Pdeathsig looks at the thread, which now lives as long as the process
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			run.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			run.err = cmd.Wait()
			close(run.done)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.run = run
	return nil
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// life gives the life that goes on, or nil.
func (p *process) life() *running {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil || p.run.ended() {
		return nil
	}
	return p.run
}

// signal sends a signal and waits until it has worked: after SIGSTOP the process is stopped, after SIGKILL and SIGTERM it is gone.
func (p *process) signal(ctx context.Context, sig syscall.Signal) error {
	run := p.life()
	if run == nil {
		return fmt.Errorf("signal %s: %w", p.name, errEnded)
	}
	if err := unix.Kill(run.pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	switch sig {
	case unix.SIGKILL, unix.SIGTERM:
		select {
		case <-run.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%s has not ended by %v: %w%s", p.name, sig, ctx.Err(), p.tail())
		}
	case unix.SIGSTOP:
		return p.until(ctx, "is stopped", func(context.Context) error { return stopped(run.pid) })
	}
	return nil
}

// stopped says by nil that a process is stopped.
func stopped(pid int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	_, after, _ := strings.Cut(string(text), ") ")
	if !strings.HasPrefix(after, "T") {
		return fmt.Errorf("its state is %.1s", after)
	}
	return nil
}

// end ends the process, by force if need be. It may have ended before.
func (p *process) end(ctx context.Context, sig syscall.Signal) error {
	run := p.life()
	if run == nil {
		return nil
	}
	_ = unix.Kill(run.pid, unix.SIGCONT) // one that is stopped takes no other signal
	err := p.signal(ctx, sig)
	if err == nil || errors.Is(err, errEnded) {
		return nil
	}
	if kill := p.signal(context.Background(), unix.SIGKILL); kill != nil {
		return kill
	}
	return err
}

// until waits for what has no event to wait for: it asks again and again, until it holds, the process ends or ctx does.
func (p *process) until(ctx context.Context, what string, holds func(context.Context) error) error {
	run := p.life()
	if run == nil {
		return fmt.Errorf("wait until %s %s: %w%s", p.name, what, errEnded, p.tail())
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-run.done:
			return fmt.Errorf("wait until %s %s: it has ended: %w%s", p.name, what, run.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait until %s %s: %w; at last: %w%s", p.name, what, ctx.Err(), err, p.tail())
		}
	}
}

// tail is the end of what the process has written, for messages.
func (p *process) tail() string { return tailOf(p.log) }

func tailOf(file string) string {
	const most = 2000
	text, err := os.ReadFile(file)
	if err != nil || len(text) == 0 {
		return ""
	}
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return "\nthe end of " + file + ":\n" + string(text)
}
