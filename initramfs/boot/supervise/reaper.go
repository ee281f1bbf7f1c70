// Package supervise keeps the processes of a node's init: it starts them, reaps all that end, its own and those that nobody else waits for,
// and starts the daemon again when that ends.
package supervise

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Reaper is the only one who waits for processes: whoever calls wait(2) beside it may find nothing. So processes are started by it alone.
type Reaper struct {
	mu   sync.Mutex
	ours map[int]*Process
}

// Process is a process that a Reaper has started.
type Process struct {
	PID    int
	proc   *os.Process
	done   chan struct{}
	status unix.WaitStatus
}

// NewReaper reaps until ctx ends.
func NewReaper(ctx context.Context) *Reaper {
	r := &Reaper{ours: map[int]*Process{}}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		defer signal.Stop(children)
		for {
			select {
			case <-children:
				r.reap()
			case <-ctx.Done():
				return
			}
		}
	}()
	return r
}

func (r *Reaper) reap() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		// Who starts a process holds the lock until it is in the list.
		r.mu.Lock()
		p := r.ours[pid]
		delete(r.ours, pid)
		r.mu.Unlock()
		if p != nil {
			p.status = ws
			_ = p.proc.Release()
			close(p.done)
		}
	}
}

// Start starts a program.
func (r *Reaper) Start(program string, args []string, attr *os.ProcAttr) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	proc, err := os.StartProcess(program, args, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	p := &Process{PID: proc.Pid, proc: proc, done: make(chan struct{})}
	r.ours[p.PID] = p
	return p, nil
}

// Alone waits until this process has no children any more, at most so long, and says whether that is so. The first process of a node has
// no children only when there are no other processes but the kernel's.
func (r *Reaper) Alone(patience time.Duration) bool {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		// Without WNOWAIT it would take what the reaper waits for.
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.ECHILD {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal. A process that has ended does not mind.
func (p *Process) Signal(s unix.Signal) {
	select {
	case <-p.done:
	default:
		_ = unix.Kill(p.PID, s)
	}
}

// How says how it ended.
func (p *Process) How() string {
	switch {
	case p.status.Signaled():
		return fmt.Sprintf("was ended by %s", unix.SignalName(p.status.Signal()))
	default:
		return fmt.Sprintf("ended with code %d", p.status.ExitStatus())
	}
}
