package supervise

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Daemon is a program that is to run always.
type Daemon struct {
	Reaper  *Reaper
	Program string
	Args    func() []string // of the next start, the program's name included
	Env     []string
	Notify  string    // path of the socket on which it says that it serves
	Log     io.Writer // takes what it writes, line by line
	Timing  Timing

	// Started, Ready, Slow and Ended are told how it goes, by one goroutine. Slow, which may be nil, is told what takes long.
	Started func(pid int)
	Ready   func(took time.Duration)
	Slow    func(text string)
	Ended   func(how string, lived, pause time.Duration)

	mu      sync.Mutex
	process *Process
	last    string        // line that it wrote
	wake    chan struct{} // ends a pause
}

// Timing says how fast it is started again.
type Timing struct {
	Pause   time.Duration // the first; doubles, with jitter
	Longest time.Duration
	Steady  time.Duration // after which it is taken to be well
	Start   time.Duration // until it serves, then it is killed; Slow is told after a fifth of it; 0: it may take for ever
	Silence time.Duration // without a sign of life, once it has served, then it is killed; 0: it may be silent
	Grace   time.Duration // between asking it to end and killing it
}

// Run starts the daemon again and again until ctx ends; then it ends it.
func (d *Daemon) Run(ctx context.Context) error {
	out, err := d.pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	notify, err := d.listen()
	if err != nil {
		return err
	}
	defer notify.Close()
	wake := make(chan struct{}, 1)
	d.mu.Lock()
	d.wake = wake
	d.mu.Unlock()
	signs := signs{ready: make(chan struct{}, 1), alive: make(chan struct{}, 1)}
	go signs.read(notify)
	for pause := d.Timing.Pause; ctx.Err() == nil; {
		began := time.Now()
		how := d.once(ctx, out, signs)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > d.Timing.Steady {
			pause = d.Timing.Pause
		}
		wait := pause/2 + rand.N(pause) //nolint:gosec // not a secret
		pause = min(2*pause, d.Timing.Longest)
		d.Ended(how, time.Since(began), wait)
		select {
		case <-time.After(wait):
		case <-wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// Wake has it started at once if it waits to be started again.
func (d *Daemon) Wake() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default: // it is to be woken already, or has not begun: a nil channel takes nothing
	}
}

// once runs it until it ends, and says how.
func (d *Daemon) once(ctx context.Context, out *os.File, signs signs) string {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err.Error()
	}
	defer null.Close()
	select {
	case <-signs.ready: // of an earlier life
	default:
	}
	began := time.Now()
	p, err := d.Reaper.Start(d.Program, d.Args(), &os.ProcAttr{
		Dir: "/", Env: d.environment(), Files: []*os.File{null, out, out},
		Sys: &syscall.SysProcAttr{Setsid: true}, // the console's keys are not for it
	})
	if err != nil {
		return err.Error()
	}
	d.set(p)
	defer d.set(nil)
	d.Started(p.PID)
	return d.follow(ctx, p, signs, began)
}

func (d *Daemon) environment() []string {
	env := append(slices.Clip(d.Env), "NOTIFY_SOCKET="+d.Notify)
	if d.Timing.Silence > 0 {
		env = append(env, fmt.Sprintf("WATCHDOG_USEC=%d", d.Timing.Silence.Microseconds()))
	}
	return env
}

func (d *Daemon) set(p *Process) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.process = p
	if p != nil {
		d.last = ""
	}
}

// PID is that of the daemon, 0 when it does not run.
func (d *Daemon) PID() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process == nil {
		return 0
	}
	return d.process.PID
}

func (d *Daemon) lastLine() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == "" {
		return ""
	}
	return "; its last line: " + d.last
}
