package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
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
	ready := make(chan struct{}, 1)
	go await(notify, ready)
	for pause := d.Timing.Pause; ctx.Err() == nil; {
		began := time.Now()
		how := d.once(ctx, out, ready)
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
func (d *Daemon) once(ctx context.Context, out *os.File, ready chan struct{}) string {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err.Error()
	}
	defer null.Close()
	select {
	case <-ready: // of an earlier life
	default:
	}
	began := time.Now()
	p, err := d.Reaper.Start(d.Program, d.Args(), &os.ProcAttr{
		Dir: "/", Env: append(d.Env, "NOTIFY_SOCKET="+d.Notify), Files: []*os.File{null, out, out},
		Sys: &syscall.SysProcAttr{Setsid: true}, // the console's keys are not for it
	})
	if err != nil {
		return err.Error()
	}
	d.set(p)
	defer d.set(nil)
	d.Started(p.PID)
	for {
		select {
		case <-ready:
			d.Ready(time.Since(began))
		case <-p.Done():
			return d.how(p)
		case <-ctx.Done():
			d.end(p)
			return d.how(p)
		}
	}
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

// await reads what the daemon notifies, and passes on that it is ready; see sd_notify(3). All lives of the daemon share the socket.
func await(notify *net.UnixConn, ready chan<- struct{}) {
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(buf[:n])) {
			if strings.TrimSpace(line) != "READY=1" {
				continue
			}
			select {
			case ready <- struct{}{}:
			default:
			}
		}
	}
}

func (d *Daemon) listen() (*net.UnixConn, error) {
	if err := errors.Join(os.MkdirAll(filepath.Dir(d.Notify), 0o700), os.RemoveAll(d.Notify)); err != nil {
		return nil, err
	}
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: d.Notify, Net: "unixgram"})
}

// maxLine is how much of a line is kept together.
const maxLine = 16 << 10

// pipe gives what all lives of the daemon write to: it never ends, for what the daemon has left running may still hold it.
func (d *Daemon) pipe() (*os.File, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() {
		defer in.Close()
		r := bufio.NewReaderSize(in, maxLine)
		for {
			line, err := r.ReadSlice('\n')
			if len(line) > 0 {
				d.mu.Lock()
				d.last = strings.TrimSpace(string(line[:min(len(line), 300)]))
				d.mu.Unlock()
				if line[len(line)-1] != '\n' {
					line = append(line, '\n')
				}
				_, _ = d.Log.Write(line) // there is nobody to tell
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
		}
	}()
	return out, nil
}
