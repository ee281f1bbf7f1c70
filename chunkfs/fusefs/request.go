package fusefs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// request is the context of a read. The kernel sends an interrupt for every signal of the reader, also for those that have a handler or
// are the Go runtime's own, but a read of a file, or a page fault, that fails with EINTR is what no program expects. So a read is given up
// only when its reader has been killed: it then waits for our answer, and for nothing else.
//
// Done starts a goroutine when it is called; reads that find their bytes at once never do.
type request struct {
	cancel <-chan struct{}
	pid    uint32 // the reader's thread; 0: of a namespace that we do not see, never given up

	start    sync.Once
	finish   sync.Once
	done     chan struct{} // closed when the reader has been killed
	finished chan struct{} // closed by end
}

var _ context.Context = (*request)(nil)

func newRequest(cancel <-chan struct{}, pid uint32) *request {
	return &request{cancel: cancel, pid: pid, done: make(chan struct{}), finished: make(chan struct{})}
}

// Done is closed when the reader has been killed.
func (r *request) Done() <-chan struct{} {
	r.start.Do(func() { go r.watch() })
	return r.done
}

// Err is context.Canceled from then on.
func (r *request) Err() error {
	select {
	case <-r.done:
		return context.Canceled
	default:
		return nil
	}
}

// Deadline is none: the device has its own.
func (r *request) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value is nothing.
func (r *request) Value(any) any { return nil }

// end stops the goroutine.
func (r *request) end() { r.finish.Do(func() { close(r.finished) }) }

// Recheck is how often an interrupted reader is looked at: the kernel sends one interrupt, and is silent when a deadly signal follows.
const Recheck = 50 * time.Millisecond

func (r *request) watch() {
	select {
	case <-r.cancel:
	case <-r.finished:
		return
	}
	tick := time.NewTicker(Recheck)
	defer tick.Stop()
	for !Killed(r.pid) {
		select {
		case <-tick.C:
		case <-r.finished:
			return
		}
	}
	close(r.done)
}

// Killed reports whether a thread is gone, or has SIGKILL pending, which every deadly signal becomes. pid is as the kernel says it to a FUSE
// server: a thread's, or 0 for one of a namespace that we do not see, which is never killed.
func Killed(pid uint32) bool {
	if pid == 0 {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		return true
	}
	for line := range bytes.Lines(b) {
		if mask, ok := bytes.CutPrefix(line, []byte("SigPnd:")); ok {
			pending, err := strconv.ParseUint(string(bytes.TrimSpace(mask)), 16, 64)
			return err == nil && pending&(1<<(9-1)) != 0
		}
	}
	return false
}
