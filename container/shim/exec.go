package shim

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/sysprog"
	"github.com/windlass-hpc/windlass/internal/unixsock"
)

// exec starts a further process, answers with its pid and, when it ends, with its exit. The process dies with the connection: nobody
// would read its output or learn its exit any more.
func (c *container) exec(conn *unixsock.Conn, req *proto.Exec, files []*os.File) error {
	if req == nil || len(req.Args) == 0 || req.Args[0] == "" {
		return fault.New(fault.Invalid, "exec: the command is empty")
	}
	if !c.enter() {
		return fault.New(fault.BadState, "exec: the container has ended")
	}
	defer c.writers.Done()
	stdio, master, err := c.stdio(req, files)
	if err != nil {
		return err
	}
	pid, pidfd, exited, err := c.spawn(req, stdio)
	if req.Terminal {
		unix.Close(stdio[0])
	}
	if err != nil {
		if master != nil {
			master.Close()
		}
		return err
	}
	reply, give := proto.Reply{PID: pid}, []*os.File{}
	if master != nil {
		give = append(give, master)
	}
	err = conn.Send(reply, give...)
	if master != nil {
		master.Close()
	}
	var mu sync.Mutex // held where the pidfd is used or closed: its number may be another's afterwards
	ended := false
	go func() {
		var none proto.Request
		for err == nil { // nothing more is said on this connection; it ends when the caller goes
			_, err = conn.Receive(&none)
		}
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			_ = unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
		}
	}()
	exit := <-exited
	_ = conn.Send(proto.Reply{Exit: &exit})
	mu.Lock()
	defer mu.Unlock()
	ended = true
	unix.Close(pidfd)
	return nil
}

// stdio is the files 0 to 2: those that came with the request, or a new terminal of the container.
func (c *container) stdio(req *proto.Exec, files []*os.File) (fds [3]int, master *os.File, err error) {
	if !req.Terminal {
		if len(files) != 3 {
			return fds, nil, fault.New(fault.Invalid, "exec: 3 files are needed, %d came", len(files))
		}
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		return fds, nil, nil
	}
	master, slave, _, err := openTerminal(c.pts)
	if err != nil {
		return fds, nil, err
	}
	if req.Rows > 0 || req.Columns > 0 {
		if err := unix.IoctlSetWinsize(slave, unix.TIOCSWINSZ, &unix.Winsize{Row: req.Rows, Col: req.Columns}); err != nil {
			master.Close()
			unix.Close(slave)
			return fds, nil, fmt.Errorf("set the size of the terminal: %w", err)
		}
	}
	return [3]int{slave, slave, slave}, master, nil
}

// spawn clones the process. Its exit comes on the channel.
func (c *container) spawn(req *proto.Exec, stdio [3]int) (pid, pidfd int, exited chan proto.Exit, err error) {
	if err := os.Mkdir(c.cfg.Cgroup.Attach(), 0o755); err != nil && !os.IsExist(err) {
		return 0, -1, nil, fmt.Errorf("make the cgroup: %w", err)
	}
	attach, err := unix.Open(c.cfg.Cgroup.Attach(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, -1, nil, &os.PathError{Op: "open", Path: c.cfg.Cgroup.Attach(), Err: err}
	}
	defer unix.Close(attach)
	joins, err := openJoins(c.cfg)
	defer closeJoins(joins)
	if err != nil {
		return 0, -1, nil, err
	}
	prog := c.execProgram(req, joins, stdio)

	c.reap.Lock()
	defer c.reap.Unlock()
	child, err := c.startInside(prog, attach)
	if err != nil {
		return 0, -1, nil, err
	}
	if err = child.Result(); err != nil {
		unix.Close(child.Pidfd) // the reaper buries it
		return 0, -1, nil, c.explainSpawn(req, err)
	}
	exited = make(chan proto.Exit, 1)
	c.children[child.PID] = exited
	return child.PID, child.Pidfd, exited, nil
}

// startInside clones into the container's pid namespace, in which only children can be: the calling thread names it as theirs, and takes
// that back. Were that to fail, the thread would go with its goroutine, which stays locked to it.
func (c *container) startInside(prog *sysprog.Program, cgroup int) (*sysprog.Child, error) {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("exec: %w", err)
	}
	defer unix.Close(own)
	if err := unix.Setns(c.pidfd, unix.CLONE_NEWPID); err != nil {
		runtime.UnlockOSThread()
		return nil, c.explainEnter(err)
	}
	child, err := prog.Start(0, cgroup, !c.cfg.Time)
	if unix.Setns(own, unix.CLONE_NEWPID) == nil {
		runtime.UnlockOSThread()
	}
	if err != nil {
		return nil, c.explainEnter(err)
	}
	return child, nil
}

// explainEnter says why no process could be made in the container. There is no room for one (ENOMEM) once its first process has ended.
func (c *container) explainEnter(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EINVAL) {
		return fault.New(fault.BadState, "exec: the container has ended: %w", err)
	}
	return fmt.Errorf("exec: enter the container: %w", err)
}

// execProgram enters the other namespaces of the container and executes.
func (c *container) execProgram(req *proto.Exec, joins []int, stdio [3]int) *sysprog.Program {
	cfg := c.cfg
	b := &builder{cfg: cfg}
	b.enterGroups(joins)
	flags := uintptr(namespaces&^unix.CLONE_NEWPID | unix.CLONE_NEWCGROUP)
	if cfg.Net {
		flags |= unix.CLONE_NEWNET
	}
	if cfg.UserNS {
		flags |= unix.CLONE_NEWUSER
	}
	if cfg.Time {
		flags |= unix.CLONE_NEWTIME
	}
	b.Call("enter the container", unix.SYS_SETNS, uintptr(c.pidfd), flags)
	if cfg.UserNS {
		b.Call("become group 0 of the user namespace", unix.SYS_SETRESGID, 0, 0, 0)
		b.Call("become user 0 of the user namespace", unix.SYS_SETRESUID, 0, 0, 0)
	}
	b.terminal(stdio[0], stdio[1], stdio[2], req.Terminal)
	b.limitFiles()
	dir := req.WorkDir
	if dir == "" {
		dir = cfg.WorkDir
	}
	b.Call("go to the working directory "+dir, unix.SYS_CHDIR, b.Str(dir))
	who := cfg.User
	if req.User != nil {
		who = *req.User
	}
	b.identity(who, capabilities(cfg))
	b.execve(req.Args, execEnv(cfg.Env, req))
	return &b.Program
}

// execve tries the directories of PATH as a shell would; the search happens in the container, so no link leads out of it.
func (b *builder) execve(args, env []string) {
	argv, envp := b.Strings(args), b.Strings(env)
	if strings.Contains(args[0], "/") {
		b.Call("execute "+args[0], unix.SYS_EXECVE, b.Str(args[0]), argv, envp)
		return
	}
	dirs := filepath.SplitList(lookupEnv(env, "PATH"))
	for i, dir := range dirs {
		s := b.Call("execute "+args[0], unix.SYS_EXECVE, b.Str(path.Join("/", dir, args[0])), argv, envp)
		if i < len(dirs)-1 {
			s.Allow(unix.ENOENT, unix.ENOTDIR)
		}
	}
	if len(dirs) == 0 {
		b.Call("execute "+args[0], unix.SYS_EXECVE, b.Str("/"+args[0]), argv, envp)
	}
}

// execEnv is the container's environment without what was for its first process only, and with what the request adds.
func execEnv(base []string, req *proto.Exec) []string {
	over := map[string]bool{"NOTIFY_SOCKET": true}
	for _, e := range req.Env {
		name, _, _ := strings.Cut(e, "=")
		over[name] = true
	}
	var env []string
	for _, e := range base {
		if name, _, _ := strings.Cut(e, "="); !over[name] {
			env = append(env, e)
		}
	}
	return append(env, req.Env...)
}

func lookupEnv(env []string, name string) string {
	for _, e := range env {
		if k, v, _ := strings.Cut(e, "="); k == name {
			return v
		}
	}
	return ""
}

func (c *container) explainSpawn(req *proto.Exec, err error) error {
	var e *sysprog.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case strings.HasPrefix(e.What, "execute ") && e.Err == unix.ENOENT && !strings.Contains(req.Args[0], "/"):
		return fault.Hintf(fault.New(fault.Invalid, "exec: there is no %q in the container's PATH", req.Args[0]), "give its absolute path")
	case strings.HasPrefix(e.What, "execute ") && e.Err == unix.ENOENT:
		return fault.New(fault.Invalid, "exec: there is no %s in the container, or its interpreter is missing", req.Args[0])
	case strings.HasPrefix(e.What, "execute "):
		return fault.New(fault.Invalid, "exec: %w", err)
	case strings.HasPrefix(e.What, "go to the working"):
		return fault.New(fault.Invalid, "exec: %w", err)
	case e.Err == unix.ESRCH || e.What == "enter the container":
		return fault.New(fault.BadState, "exec: the container has ended: %w", err)
	}
	return fmt.Errorf("exec: %w", err)
}
