package linux

import (
	"context"
	"errors"
	"io"
	"os"
	"path"
	"sort"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/unixsock"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Exec starts a further process. It is killed when the Process is closed, and when this daemon dies: nobody would read its output.
func (r *Runtime) Exec(ctx context.Context, id container.ID, spec *models.ExecSpec) (container.Process, error) {
	req, err := r.execRequest(ctx, id, spec)
	if err != nil {
		return nil, err
	}
	var p *process
	err = step.Do(ctx, "container.exec", func(ctx context.Context) error {
		p, err = r.startExec(ctx, id, req)
		return err
	})
	if err != nil {
		if p != nil {
			p.Close()
		}
		return nil, err
	}
	return p, nil
}

func (r *Runtime) execRequest(ctx context.Context, id container.ID, spec *models.ExecSpec) (*proto.Exec, error) {
	if len(spec.Command) == 0 || spec.Command[0] == "" {
		return nil, fault.New(fault.Invalid, "exec: command is empty")
	}
	for _, a := range spec.Command {
		if containsNUL(a) {
			return nil, fault.New(fault.Invalid, "exec: command holds a NUL byte")
		}
	}
	if err := checkEnv(spec.Env); err != nil {
		return nil, err
	}
	req := &proto.Exec{Args: spec.Command, Terminal: isTrue(spec.Tty), Rows: size(spec.Rows), Columns: size(spec.Columns)}
	if spec.WorkingDir != "" {
		if err := safepath.CheckAbsolute("working_dir", spec.WorkingDir); err != nil {
			return nil, err
		}
		req.WorkDir = path.Clean(spec.WorkingDir)
	}
	for k, v := range spec.Env {
		req.Env = append(req.Env, k+"="+v)
	}
	sort.Strings(req.Env)
	if spec.User != "" {
		who, err := r.userInside(ctx, id, spec.User)
		if err != nil {
			return nil, err
		}
		req.User = &who
	}
	return req, nil
}

func containsNUL(s string) bool {
	for i := range len(s) {
		if s[i] == 0 {
			return true
		}
	}
	return false
}

func size(n *int64) uint16 {
	if n == nil || *n < 0 || *n > 65535 {
		return 0
	}
	return uint16(*n)
}

// userInside looks a user up in the container as it is now.
func (r *Runtime) userInside(ctx context.Context, id container.ID, user string) (proto.Identity, error) {
	st, err := r.Status(ctx, id)
	if err != nil {
		return proto.Identity{}, err
	}
	if st.PID == 0 {
		return proto.Identity{}, notRunning("exec in", id)
	}
	root, err := unix.Open("/proc/"+strconv.Itoa(st.PID)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return proto.Identity{}, notRunning("exec in", id)
	}
	defer unix.Close(root)
	return lookupUser(ctx, root, user)
}

// process implements container.Process.
type process struct {
	conn     *unixsock.Conn
	terminal *os.File
	stdin    io.WriteCloser
	stdout   io.ReadCloser
	stderr   io.ReadCloser
	done     chan struct{}
	exit     container.Exit
	err      error
	close    sync.Once
}

// startExec hands the request with three pipes, or for a terminal without, to the shim.
func (r *Runtime) startExec(ctx context.Context, id container.ID, req *proto.Exec) (*process, error) {
	conn, err := r.dial(id)
	if err == errNoShim {
		return nil, notRunning("exec in", id)
	}
	if err != nil {
		return nil, err
	}
	p := &process{conn: conn, done: make(chan struct{})}
	var theirs []*os.File
	if !req.Terminal {
		theirs, err = p.pipes()
	}
	if err == nil {
		err = p.begin(ctx, id, req, theirs)
	}
	for _, f := range theirs {
		f.Close()
	}
	if err != nil {
		close(p.done)
		p.Close()
		return nil, err
	}
	go p.await()
	return p, nil
}

// pipes makes the three pipes and gives the process's ends.
func (p *process) pipes() ([]*os.File, error) {
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	stdout, out, err := os.Pipe()
	if err != nil {
		return []*os.File{in}, err
	}
	p.stdout = stdout
	stderr, errw, err := os.Pipe()
	if err != nil {
		return []*os.File{in, out}, err
	}
	p.stderr = stderr
	return []*os.File{in, out, errw}, nil
}

func (p *process) begin(ctx context.Context, id container.ID, req *proto.Exec, theirs []*os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var reply proto.Reply
	err := p.conn.Send(proto.Request{Version: proto.Version, Op: proto.OpExec, Exec: req}, theirs...)
	var got []*os.File
	if err == nil {
		got, err = p.conn.Receive(&reply)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return notRunning("exec in", id)
	case reply.Error != nil:
		return reply.Error.Unpack()
	case !req.Terminal:
		return nil
	case len(got) != 1:
		return errors.New("exec: the shim gave no terminal")
	}
	return p.take(got[0])
}

// take makes the terminal that the shim sent both input and output.
func (p *process) take(f *os.File) error {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	f.Close()
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	p.terminal = os.NewFile(uintptr(fd), "terminal")
	p.stdin, p.stdout = terminalInput{p.terminal}, terminalOutput{p.terminal}
	return nil
}

// terminalInput ends input with the character for that, control-D: closing the terminal would end its output too.
type terminalInput struct{ *os.File }

func (t terminalInput) Close() error {
	_, err := t.Write([]byte{4})
	return err
}

// terminalOutput turns EIO, which is how a terminal says that nobody is left on its other side, into the end of file.
type terminalOutput struct{ *os.File }

func (t terminalOutput) Read(b []byte) (int, error) {
	n, err := t.File.Read(b)
	if errors.Is(err, unix.EIO) {
		err = io.EOF
	}
	return n, err
}

func (p *process) await() {
	defer close(p.done)
	var reply proto.Reply
	_, err := p.conn.Receive(&reply)
	if err != nil || reply.Exit == nil {
		p.err = fault.New(fault.Internal, "the process was killed with the container's shim, its exit is not known")
		return
	}
	p.exit = container.Exit{Code: reply.Exit.Code, Signal: reply.Exit.Signal}
}

func (p *process) Stdin() io.WriteCloser { return p.stdin }
func (p *process) Stdout() io.ReadCloser { return p.stdout }
func (p *process) Stderr() io.ReadCloser { return p.stderr }

// Resize sets the size of the terminal.
func (p *process) Resize(rows, columns uint16) error {
	if p.terminal == nil {
		return nil
	}
	raw, err := p.terminal.SyscallConn()
	if err != nil {
		return err
	}
	var ierr error
	err = raw.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	})
	return errors.Join(err, ierr)
}

// Wait gives the exit.
func (p *process) Wait(ctx context.Context) (container.Exit, error) {
	select {
	case <-p.done:
		return p.exit, p.err
	case <-ctx.Done():
		return container.Exit{}, ctx.Err()
	}
}

// Close drops the connection, upon which the shim kills the process.
func (p *process) Close() error {
	p.close.Do(func() {
		p.conn.Close()
		if p.terminal != nil {
			p.terminal.Close()
			return
		}
		for _, c := range []io.Closer{p.stdin, p.stdout, p.stderr} {
			if f, ok := c.(*os.File); ok {
				f.Close()
			}
		}
	})
	return nil
}
