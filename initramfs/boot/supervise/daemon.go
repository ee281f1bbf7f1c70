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

	"golang.org/x/sys/unix"
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

	// Started, Ready and Ended are told how it goes, by one goroutine. An error of Ended is of a program that could not be started.
	Started func(pid int)
	Ready   func(took time.Duration)
	Ended   func(how string, lived, pause time.Duration)

	mu      sync.Mutex
	process *Process
	last    string // line that it wrote
}

// Timing says how fast it is started again.
type Timing struct {
	Pause   time.Duration // the first; doubles, with jitter
	Longest time.Duration
	Steady  time.Duration // after which it is taken to be well
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
		case <-ctx.Done():
		}
	}
	return nil
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
	var silent <-chan time.Time // nil: it is not watched
	for {
		select {
		case <-signs.ready:
			d.Ready(time.Since(began))
			silent = d.watch()
		case <-signs.alive:
			if silent != nil {
				silent = d.watch()
			}
		case <-silent:
			p.Signal(unix.SIGKILL)
			<-p.Done()
			return fmt.Sprintf("has given no sign of life for %v, and was killed", d.Timing.Silence)
		case <-p.Done():
			return d.how(p)
		case <-ctx.Done():
			d.end(p)
			return d.how(p)
		}
	}
}

// watch gives what tells that the daemon was silent for too long.
func (d *Daemon) watch() <-chan time.Time {
	if d.Timing.Silence == 0 {
		return nil
	}
	return time.After(d.Timing.Silence)
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

func (d *Daemon) how(p *Process) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == "" {
		return p.How()
	}
	return fmt.Sprintf("%s; its last line: %s", p.How(), d.last)
}

func (d *Daemon) end(p *Process) {
	p.Signal(unix.SIGTERM)
	select {
	case <-p.Done():
	case <-time.After(d.Timing.Grace):
		p.Signal(unix.SIGKILL)
		<-p.Done()
	}
}
