package shim

import (
	"fmt"

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
func (c *container) reaper(first int) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // no children left
			return
		case pid == first:
			go c.finish(ws)
			continue
		}
		c.reap.Lock()
		if ch := c.children[pid]; ch != nil {
			ch <- exitOf(ws)
			delete(c.children, pid)
		}
		c.reap.Unlock()
	}
}
