package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper/act"
)

// ErrStart is in the error of a helper that could not be started: nothing was done.
var ErrStart = errors.New("start the helper")

// grace is how long a killed helper has to die before it is left behind.
const grace = 200 * time.Millisecond

// Option changes how a helper is started.
type Option func(*settings)

type settings struct {
	keep []*os.File
	give bool // the files of the order become the helper's alone, once there is one
}

// Keep has the helper inherit f, such as a file with a flock: it stays locked as long as a helper that was left behind lives.
func Keep(f *os.File) Option { return func(s *settings) { s.keep = append(s.keep, f) } }

// process is a helper that runs.
type process struct {
	sock  int // our side, nobody's but receive's once that runs
	said  *os.File
	began time.Time

	started chan error // one element; then pid and kill are set
	proc    *os.Process
	ended   chan struct{}
	state   *os.ProcessState
	got     chan received // one element
}

type received struct {
	answer act.Answer
	files  []*os.File
	err    error
}

// run has a helper carry out an order. It gives its answer and the mount or file that came with it, if any.
func (r *Runner) run(ctx context.Context, what string, o act.Order, files []*os.File, opts []Option) (act.Answer, *os.File, error) {
	if err := ctx.Err(); err != nil {
		return act.Answer{}, nil, fmt.Errorf("%s: %w", what, err)
	}
	p, err := r.start(o, files, opts)
	if err != nil {
		return act.Answer{}, nil, fault.New(fault.KindOf(err), "%s: %w %s: %w", what, ErrStart, r.shim, err)
	}
	stuck := p.await(ctx)
	if stuck {
		r.leave(p, o, what)
		// Nothing that it says comes in any more, and receive ends.
		_ = unix.Shutdown(p.sock, unix.SHUT_RDWR)
	}
	got := <-p.got
	var mnt *os.File
	for i, f := range got.files {
		if i == 0 && got.err == nil && got.answer.Errno == 0 {
			mnt = f
			continue
		}
		f.Close()
	}
	unix.Close(p.sock)
	defer p.said.Close()
	switch {
	case got.err == nil: // it answered at the last moment, or hangs at its end
		return got.answer, mnt, nil
	case stuck:
		s := &Stuck{PID: p.proc.Pid, What: what, After: time.Since(p.began), Where: where(p.proc.Pid), cause: ctx.Err()}
		return act.Answer{}, nil, fault.New(fault.Timeout, "%w", s)
	case ctx.Err() != nil:
		return act.Answer{}, nil, gaveUp(ctx, what, time.Since(p.began))
	}
	return act.Answer{}, nil, p.died(what, got.err)
}

// start queues the order and starts a helper for it.
func (r *Runner) start(o act.Order, files []*os.File, opts []Option) (*process, error) {
	var s settings
	for _, opt := range opts {
		opt(&s)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "helper's side")
	defer theirs.Close()
	p := &process{sock: pair[0], began: time.Now(), started: make(chan error, 1), ended: make(chan struct{}), got: make(chan received, 1)}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	if err = act.Send(p.sock, o, fds...); err == nil {
		p.said, err = scrap()
	}
	if err == nil {
		go p.live(r.shim, append([]*os.File{theirs, p.said, p.said}, s.keep...))
		err = <-p.started
	}
	runtime.KeepAlive(files)
	if err != nil {
		unix.Close(p.sock)
		if p.said != nil {
			p.said.Close()
		}
		return nil, err
	}
	if s.give {
		for _, f := range files {
			f.Close()
		}
		_ = act.Send(p.sock, act.Go{}) // one that cannot hear it has died, and its files are closed
	}
	name := "mount"
	if o.Op == act.OpOpen {
		name = o.Path
	}
	go p.receive(name)
	return p, nil
}

// scrap is a file for what a helper says when it fails.
func scrap() (*os.File, error) {
	fd, err := unix.MemfdCreate("helper", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), "helper's words"), nil
}

// live starts the process and sees it to its end, on one thread: the death of the thread that started it would kill it.
func (p *process) live(shim string, files []*os.File) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	p.proc, err = os.StartProcess(shim, []string{"windlass-shim", act.Word}, &os.ProcAttr{
		Dir: "/", Files: files,
		// A signal that the runtime sends itself could interrupt the kernel's work.
		Env: []string{"GOMAXPROCS=1", "GOTRACEBACK=single", "GODEBUG=asyncpreemptoff=1"},
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	p.started <- err
	if err != nil {
		return
	}
	p.state, _ = p.proc.Wait()
	close(p.ended)
}

// receive waits for the answer. name is that of the file that may come with it.
func (p *process) receive(name string) {
	var got received
	fds, err := act.Receive(p.sock, &got.answer)
	for _, fd := range fds {
		got.files = append(got.files, os.NewFile(uintptr(fd), name))
	}
	got.err = err
	p.got <- got
}

// await waits until the process has ended, and kills it when ctx ends. stuck says that it has not died.
//
// Its end and not its answer is waited for: until then it may hold a mount that it made, which could not be unmounted.
func (p *process) await(ctx context.Context) (stuck bool) {
	select {
	case <-p.ended:
		return false
	case <-ctx.Done():
	}
	_ = p.proc.Kill()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
		return false
	case <-timer.C:
		return true
	}
}

// died is the error of a helper that ended without an answer.
func (p *process) died(what string, err error) error {
	words := make([]byte, 1024)
	n, _ := p.said.ReadAt(words, 0)
	text := strings.TrimSpace(string(words[:n]))
	if !errors.Is(err, act.ErrGone) {
		text = strings.TrimSpace(text + " " + err.Error())
	}
	if text == "" {
		text = "it said nothing"
	}
	return fmt.Errorf("%s: the helper ended without an answer: %v: %s", what, p.state, text)
}
