package linux

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/cgroup"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
)

// killWait bounds how long what was killed may take to end: a process in the kernel's hands (dead NFS) takes as long as it likes.
const killWait = 20 * time.Second

// stuckWait is how long a shim may take to notice that everything of its container is dead.
const stuckWait = 3 * time.Second

// Signal sends a signal to the first process.
func (r *Runtime) Signal(ctx context.Context, id container.ID, signal int) error {
	return step.Do(ctx, "container.signal", func(ctx context.Context) error {
		_, err := r.ask(ctx, id, proto.Request{Op: proto.OpSignal, Signal: signal})
		if err == errNoShim {
			return notRunning("signal", id)
		}
		return err
	})
}

func notRunning(verb string, id container.ID) error {
	return fault.New(fault.BadState, "%s container %d: it does not run", verb, id)
}

// Kill ends everything of the container.
func (r *Runtime) Kill(ctx context.Context, id container.ID) error {
	st, err := r.Status(ctx, id)
	if err == nil && (st.State == container.Exited || st.State == container.Absent) {
		return nil
	}
	return step.Do(ctx, "container.kill", func(ctx context.Context) error {
		if err := r.recorded(id).Kill(); err != nil {
			return fmt.Errorf("kill container %d: %w", id, err)
		}
		return r.awaitExit(ctx, id)
	})
}

// awaitExit waits until a killed container is Exited. When everything of it is dead and its shim still says nothing, the shim is stuck
// and is killed too.
func (r *Runtime) awaitExit(ctx context.Context, id container.ID) error {
	ctx, cancel := context.WithTimeout(ctx, killWait)
	defer cancel()
	ch, err := r.Watch(ctx, id)
	if err != nil {
		return err
	}
	stuck := time.NewTimer(stuckWait)
	defer stuck.Stop()
	for {
		select {
		case st, ok := <-ch:
			switch {
			case st.State == container.Exited || st.State == container.Absent:
				return nil
			case !ok:
				return fault.New(fault.Busy, "container %d was killed and has not ended: %w", id, ctx.Err())
			}
		case <-stuck.C:
			if events, err := r.recorded(id).Events(); err != nil || events.Populated {
				stuck.Reset(stuckWait) // it is not the shim that takes its time
			} else if err := r.killShim(id); err != nil {
				return err
			}
		}
	}
}

// Pause freezes everything of the container.
func (r *Runtime) Pause(ctx context.Context, id container.ID) error {
	return r.freeze(ctx, id, "pause", true)
}

// Resume thaws it.
func (r *Runtime) Resume(ctx context.Context, id container.ID) error {
	return r.freeze(ctx, id, "resume", false)
}

func (r *Runtime) freeze(ctx context.Context, id container.ID, verb string, frozen bool) error {
	st, err := r.Status(ctx, id)
	if err != nil {
		return err
	}
	if st.State != container.Running && st.State != container.Paused {
		return notRunning(verb, id)
	}
	group := r.recorded(id)
	err = step.Do(ctx, "container."+verb, func(ctx context.Context) error { return group.Freeze(ctx, frozen) })
	if errors.Is(err, fs.ErrNotExist) {
		return notRunning(verb, id)
	}
	if err != nil && frozen {
		_ = group.Freeze(context.WithoutCancel(ctx), false) // half frozen is neither
	}
	return err
}

// shims is the cgroup of all shims of this daemon.
func (r *Runtime) shims() cgroup.Group { return cgroup.Group{Dir: filepath.Join(r.top.Dir, "shim")} }

// killShim kills the shim of id, if one lives. It is known by its arguments among the processes in the cgroup of the shims, where
// nothing else is; a pidfd taken before they are read makes sure that it is that one that is hit.
func (r *Runtime) killShim(id container.ID) error {
	pids, err := r.shims().Procs()
	if err != nil {
		return err
	}
	want := strings.Join([]string{"windlass-shim", r.cfg.RunDir.Instance(), strconv.FormatInt(int64(id), 10), ""}, "\x00")
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has gone
		}
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && string(line) == want {
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
		if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("kill the shim of container %d: %w", id, err)
		}
	}
	return nil
}

// Remove forgets the container. The directory goes last: as long as it is there, the container is known.
func (r *Runtime) Remove(ctx context.Context, id container.ID) error {
	if err := r.Kill(ctx, id); err != nil {
		return err
	}
	defer r.locks.lock(id)()
	if err := step.Do(ctx, "container.remove_shim", func(ctx context.Context) error { return r.shimGone(ctx, id) }); err != nil {
		return err
	}
	err := step.Do(ctx, "container.remove_cgroup", func(ctx context.Context) error { return r.removeGroups(ctx, id) })
	if err != nil {
		return err
	}
	return step.Do(ctx, "container.remove_directory", func(ctx context.Context) error {
		if err := os.RemoveAll(r.dir(id)); err != nil {
			return fmt.Errorf("remove the directory of container %d: %w", id, err)
		}
		return r.tidy(ctx)
	})
}

// removeGroups removes the cgroups of the container.
func (r *Runtime) removeGroups(ctx context.Context, id container.ID) error {
	return errors.Join(r.recorded(id).Remove(ctx), r.group(id).Remove(ctx))
}

// tidy removes the cgroups that all containers share when there is no container any more. A shim that has said its last word takes a
// moment to leave.
func (r *Runtime) tidy(ctx context.Context) error {
	r.starting.Lock()
	defer r.starting.Unlock()
	ids, err := r.List(ctx)
	if err != nil || len(ids) > 0 || !r.top.Exists() {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, shimWait)
	defer cancel()
	if err := r.shims().WaitEmpty(ctx); err != nil {
		return err
	}
	r.shims().RemoveEmpty()
	r.top.RemoveEmpty()
	return nil
}

// shimWait is the moment that a shim has to leave after the end.
const shimWait = 5 * time.Second

// shimGrace is the same for one that is killed then, such as one that cannot write its last words on a full disk: nobody wants them any
// more, and whoever has the container removed waits for it.
const shimGrace = 1500 * time.Millisecond

// shimGone waits until the shim has left, and kills one that does not.
func (r *Runtime) shimGone(ctx context.Context, id container.ID) error {
	conn, err := r.dial(id)
	if err == errNoShim {
		return nil
	}
	if err == nil {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(shimGrace))
		if _, err = conn.Receive(&proto.Reply{}); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
	}
	return r.killShim(id)
}
