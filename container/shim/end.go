package shim

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/cgroup"
)

// rebootCode is the exit code of a system that asked to be started again, as systemd-nspawn has it.
const rebootCode = 133

// describeEnd says how the first process ended. reboot(2) in a pid namespace ends that with a signal: SIGINT for halt and power-off,
// SIGHUP for a restart. No other way leads there: to the first process of a namespace, both are ignored unless it handles them.
func describeEnd(st *proto.Status, ws unix.WaitStatus) {
	if ws.Signaled() {
		switch ws.Signal() {
		case unix.SIGINT:
			st.ExitCode, st.ExitSignal = 0, ""
			return
		case unix.SIGHUP:
			st.ExitCode, st.ExitSignal, st.Error = rebootCode, "", "it asked to be started again (reboot)"
			return
		}
	}
	exit := exitOf(ws)
	st.ExitCode, st.ExitSignal = exit.Code, exit.Signal
}

func exitOf(ws unix.WaitStatus) proto.Exit {
	if !ws.Signaled() {
		return proto.Exit{Code: ws.ExitStatus()}
	}
	name := unix.SignalName(ws.Signal())
	if name == "" {
		name = fmt.Sprintf("SIG%d", int(ws.Signal()))
	}
	return proto.Exit{Code: 128 + int(ws.Signal()), Signal: name}
}

func changedFrom(was cgroup.Events) func(cgroup.Events) bool {
	return func(now cgroup.Events) bool { return now != was }
}

// reaper waits for children, which are the container's first process, exec'd ones and, this being a subreaper, orphans of either.
// It looks first and reaps under the lock: so the pid of a process that is being entered cannot have been given to another.
func (c *container) reaper(first int) {
	for {
		pid, err := exited()
		if err == unix.EINTR {
			continue
		}
		if err != nil { // no children left
			return
		}
		if pid != first {
			c.reapOne(pid)
			continue
		}
		var ws unix.WaitStatus
		if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err == nil {
			go c.finish(ws)
		}
	}
}

func (c *container) reapOne(pid int) {
	c.reap.Lock()
	defer c.reap.Unlock()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(pid, &ws, unix.WALL, nil); err != nil {
		return
	}
	if ch := c.children[pid]; ch != nil {
		ch <- exitOf(ws)
		delete(c.children, pid)
	}
}

// exited waits until a child has ended and gives its pid; it stays to be reaped.
func exited() (int, error) {
	var info struct { // siginfo_t of SIGCHLD
		_   [4]int32
		pid int32
		_   [108]byte
	}
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT|unix.WALL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(info.pid), nil
}
