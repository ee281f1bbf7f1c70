package shim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/sysprog"
)

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// start prepares what is left to prepare and starts the first process. It takes over what has been grown. When it returns an error
// nothing runs; what was prepared goes with the shim.
func (c *container) start(t *trees, err error) error {
	cfg := c.cfg
	if err == nil && cfg.IDBase != 0 {
		t.close()
		t, err = grow(cfg.IDBase)
	}
	defer t.close()
	if err != nil {
		return err
	}
	if err := t.take(cfg); err != nil {
		return err
	}
	if c.notify, err = furnishRun(t.run, cfg); err != nil {
		return err
	}
	log, err := openLog(cfg.Dir, cfg.LogSize)
	if err != nil {
		return err
	}
	if c.console, err = openConsole(t.pts, log); err != nil {
		return err
	}
	if cfg.UserNS {
		if err := unix.Fchown(c.console.slave, int(cfg.IDBase), int(cfg.IDBase+ttyGroup)); err != nil {
			return fmt.Errorf("give the console to the container: %w", err)
		}
	}
	if c.pts, err = unix.FcntlInt(uintptr(t.pts), unix.F_DUPFD_CLOEXEC, 3); err != nil {
		return fmt.Errorf("keep the container's terminals: %w", err)
	}
	return c.launch(t)
}

// launch clones the first process and waits until it has executed its command.
func (c *container) launch(t *trees) error {
	cfg := c.cfg
	payload, err := unix.Open(cfg.Cgroup.Payload(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: cfg.Cgroup.Payload(), Err: err}
	}
	defer unix.Close(payload)
	joins, err := openJoins(cfg)
	defer closeJoins(joins)
	if err != nil {
		return err
	}
	var sync [2]int
	if err := unix.Pipe2(sync[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer unix.Close(sync[0])
	release := sync[1]
	defer func() { unix.Close(release) }()

	if cfg.Time {
		if err := startClock(); err != nil {
			return err
		}
	}
	prog := program(cfg, t, joins, sync[0], c.console.number, c.console.slave)
	flags := uint64(namespaces)
	if cfg.Net {
		flags |= unix.CLONE_NEWNET
	}
	if cfg.UserNS {
		flags |= unix.CLONE_NEWUSER
	}
	child, err := prog.Start(flags, payload, !cfg.Time) // only what has memory of its own enters a time namespace
	if err != nil {
		return explainClone(err)
	}
	if cfg.UserNS {
		if err := c.mapUsers(t, child.PID, release); err != nil {
			_ = unix.Kill(child.PID, unix.SIGKILL)
			_ = child.Result()
			abandon(child)
			return err
		}
	}
	if err := child.Result(); err != nil {
		abandon(child)
		return explain(cfg, err)
	}
	c.running(child)
	return nil
}

func abandon(child *sysprog.Child) {
	unix.Close(child.Pidfd)
	_, _ = unix.Wait4(child.PID, nil, 0, nil)
}

// running begins what goes on as long as the container lives.
func (c *container) running(child *sysprog.Child) {
	c.pidfd = child.Pidfd
	c.status = proto.Status{State: proto.Running, PID: child.PID, Shim: os.Getpid(), Ready: !c.cfg.Systemd, Started: time.Now().UTC()}
	go c.console.pump()
	if c.notify != nil {
		go c.followNotify(child.PID)
	}
	go c.reaper(child.PID)
}

// mapUsers gives the user namespace its ids and lets the child go on.
func (c *container) mapUsers(t *trees, pid, release int) error {
	proc := fmt.Sprintf("/proc/%d/", pid)
	ids := fmt.Sprintf("0 %d %d\n", c.cfg.IDBase, proto.IDs)
	for _, name := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(proc+name, []byte(ids), 0); err != nil {
			return fmt.Errorf("map the ids of the user namespace: %w", err)
		}
	}
	userns, err := unix.Open(proc+"ns/user", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the user namespace: %w", err)
	}
	defer unix.Close(userns)
	if err := t.mapRoot(userns, c.cfg); err != nil {
		return err
	}
	if _, err := unix.Write(release, []byte{1}); err != nil {
		return fmt.Errorf("let the container go on: %w", err)
	}
	return nil
}

func openJoins(cfg *proto.Config) ([]int, error) {
	var fds []int
	for _, dir := range cfg.Cgroup.Joins() {
		path := filepath.Join(dir, "cgroup.procs")
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fds, &os.PathError{Op: "open", Path: path, Err: err}
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeJoins(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func explainClone(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) {
		return fault.Hintf(fault.New(fault.Unavailable, "make the namespaces: too many on this node: %w", err),
			"raise user.max_*_namespaces (sysctl)")
	}
	return fmt.Errorf("make the namespaces: %w", err)
}

// explain turns the call that failed in the child into what the user did wrong, where that is known.
func explain(cfg *proto.Config, err error) error {
	var e *sysprog.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case strings.HasPrefix(e.What, "execute "):
		return explainExec(cfg.Path, e)
	case e.Err == unix.EROFS && strings.HasPrefix(e.What, "make the "):
		return fault.Hintf(fault.New(fault.Invalid, "%s: the root file system is read-only", e.What),
			"put it into the image, or lay an overlay with an upper over it")
	case strings.HasPrefix(e.What, "go to the working") || strings.HasPrefix(e.What, "bind "):
		return fault.New(fault.Invalid, "%w", err)
	}
	return err
}

func explainExec(path string, e *sysprog.Error) error {
	switch e.Err {
	case unix.ENOENT:
		return fault.Hintf(fault.New(fault.Invalid, "execute %s: it is there, but its interpreter (the loader of a program, the first line of a script) is not", path),
			"run `file` on it and see what it names; the image lacks that")
	case unix.ENOEXEC:
		return fault.Hintf(fault.New(fault.Invalid, "execute %s: it is no program of this machine: %w", path, e.Err),
			"is it built for this architecture, and does a script begin with #! ?")
	case unix.EACCES, unix.ENOTDIR, unix.ELOOP, unix.EISDIR, unix.E2BIG, unix.ETXTBSY:
		return fault.New(fault.Invalid, "execute %s: %w", path, e.Err)
	}
	return e
}
