package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Events is what cgroup.events says of the group and all below it.
type Events struct{ Populated, Frozen bool }

// Exists reports whether there is anything of the group.
func (g Group) Exists() bool {
	if _, err := os.Stat(g.Dir); err == nil {
		return true
	}
	return len(g.Joins()) > 0
}

// Events reads the state; a group that is not there is empty.
func (g Group) Events() (Events, error) {
	b, err := os.ReadFile(filepath.Join(g.Dir, "cgroup.events"))
	if gone(err) {
		return Events{}, nil
	}
	if err != nil {
		return Events{}, fmt.Errorf("read the state of a cgroup: %w", err)
	}
	return parseEvents(string(b)), nil
}

func parseEvents(text string) Events {
	return Events{Populated: strings.Contains(text, "populated 1"), Frozen: strings.Contains(text, "frozen 1")}
}

// Kill sends SIGKILL to everything in the group, frozen or not.
func (g Group) Kill() error {
	if err := write(g.Dir, "cgroup.kill", "1"); err != nil && !gone(err) {
		return err
	}
	return nil
}

// Freeze stops or thaws everything in the group and returns when that is so.
func (g Group) Freeze(ctx context.Context, frozen bool) error {
	value := "0"
	if frozen {
		value = "1"
	}
	if err := write(g.Dir, "cgroup.freeze", value); err != nil {
		return err
	}
	return g.Wait(ctx, func(e Events) bool { return e.Frozen == frozen })
}

// WaitEmpty returns when nothing runs in the group.
func (g Group) WaitEmpty(ctx context.Context) error {
	return g.Wait(ctx, func(e Events) bool { return !e.Populated })
}

// Wait returns when the events are as wanted, which the kernel tells by itself. A group that is gone is empty and not frozen.
func (g Group) Wait(ctx context.Context, wanted func(Events) bool) error {
	fd, err := unix.Open(filepath.Join(g.Dir, "cgroup.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if gone(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open cgroup.events: %w", err)
	}
	defer unix.Close(fd)
	wake, err := wakeup(ctx)
	if err != nil {
		return err
	}
	defer wake.close()
	buf := make([]byte, 256)
	for {
		n, err := unix.Pread(fd, buf, 0)
		if gone(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read cgroup.events: %w", err)
		}
		if wanted(parseEvents(string(buf[:n]))) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for cgroup %s: %w", g.Dir, err)
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}, {Fd: int32(wake.fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for cgroup.events: %w", err)
		}
	}
}

// waker turns the end of a context into a readable descriptor.
type waker struct {
	fd   int
	stop func() bool
	done chan struct{}
}

func wakeup(ctx context.Context) (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	w := &waker{fd: fd, done: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.done)
		_, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	return w, nil
}

func (w *waker) close() {
	if !w.stop() {
		<-w.done
	}
	unix.Close(w.fd)
}

// OOMKills is how many processes of the group the kernel has killed for want of memory.
func (g Group) OOMKills() int64 {
	dir, file := g.Dir, "memory.events"
	if d := g.Legacy["memory"]; d != "" {
		dir, file = d, "memory.oom_control"
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0 // no limit on memory
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseInt(rest, 10, 64)
			return n
		}
	}
	return 0
}

// Procs lists the processes of the group itself, not of those below it.
func (g Group) Procs() ([]int, error) {
	b, err := os.ReadFile(filepath.Join(g.Dir, "cgroup.procs"))
	if gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read cgroup.procs: %w", err)
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// removeWait bounds how long Remove waits for a cgroup that is still busy after it was killed.
const removeWait = 10 * time.Second

// Remove kills what runs in the group, waits until that has ended and removes the directories, children first. Gone is success.
func (g Group) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	if err := g.Kill(); err != nil {
		return err
	}
	if err := g.WaitEmpty(ctx); err != nil {
		return fault.New(fault.Busy, "remove cgroup %s: what was killed does not end: %w", g.Dir, err)
	}
	errs := []error{removeTree(ctx, g.Dir)}
	for _, dir := range g.Legacy {
		errs = append(errs, removeTree(ctx, dir))
	}
	return errors.Join(errs...)
}

// RemoveEmpty removes the group's own directories when nothing is in them any more.
func (g Group) RemoveEmpty() {
	_ = unix.Rmdir(g.Dir)
	for _, dir := range g.Legacy {
		_ = unix.Rmdir(dir)
	}
}

// removeTree removes a cgroup and those below it. EBUSY passes: a dying process is counted for a moment after it has gone from
// cgroup.events, and version 1 has no events at all.
func removeTree(ctx context.Context, dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || gone(err) {
		return nil
	}
	entries, rerr := os.ReadDir(dir)
	if rerr != nil && !gone(rerr) {
		return rerr
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(ctx, filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Rmdir(dir)
		if err == nil || gone(err) {
			return nil
		}
		if err != unix.EBUSY || ctx.Err() != nil {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// gone says that a cgroup is not there: ENODEV comes from a file that was open when it went.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }
