// Package idmap is about the ids of the node that stand for those of a user namespace.
//
// The kernel shows a mount with other ids when it is given a user namespace that maps them (mount_setattr(2), MOUNT_ATTR_IDMAP). The
// package makes such namespaces, without anything that runs in them. It never touches a mount.
package idmap

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/sysprog"
)

// Range says where the ids of a user namespace lie on the node: 0 inside is First outside, and so on for Size ids, of users and of
// groups alike.
type Range struct {
	First uint32 `json:"first"`
	Size  uint32 `json:"size"`
}

// Has reports whether an id of the node lies in the range.
func (r Range) Has(id uint32) bool { return id >= r.First && id-r.First < r.Size }

// Namespace makes a user namespace with the ids of the range. It is there for as long as its descriptor, or a mount that was given it,
// is. The stage is "idmap.namespace".
func Namespace(ctx context.Context, r Range) (*os.File, error) {
	var ns *os.File
	err := step.Do(ctx, "idmap.namespace", func(context.Context) error {
		var err error
		ns, err = namespace(r)
		return err
	})
	if err != nil && ns != nil {
		ns.Close()
		ns = nil
	}
	return ns, err
}

// namespace clones a process into a namespace, since there is no other way to make one, and lets it go as soon as the namespace is open.
func namespace(r Range) (*os.File, error) {
	var wait [2]int
	if err := unix.Pipe2(wait[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer unix.Close(wait[1])
	prog := sleeper(wait[0])
	child, err := prog.Start(unix.CLONE_NEWUSER, -1, true)
	unix.Close(wait[0])
	if err != nil {
		return nil, fmt.Errorf("make a user namespace: %w", err)
	}
	defer runtime.KeepAlive(prog)
	defer end(child)
	proc := fmt.Sprintf("/proc/%d/", child.PID)
	for _, name := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(proc+name, fmt.Appendf(nil, "0 %d %d\n", r.First, r.Size), 0); err != nil {
			return nil, fmt.Errorf("map the ids of a user namespace: %w", err)
		}
	}
	ns, err := os.Open(proc + "ns/user")
	if err != nil {
		return nil, fmt.Errorf("open a user namespace: %w", err)
	}
	return ns, nil
}

// sleeper is a process that keeps nothing of ours open but one end of a pipe, and goes when the other end is closed: also when we are
// killed.
func sleeper(wait int) *sysprog.Program {
	p := &sysprog.Program{}
	p.Call("take the pipe", unix.SYS_DUP3, uintptr(wait), 0, 0)
	p.Call("close all else", unix.SYS_CLOSE_RANGE, 1, uintptr(^uint32(0)), 0)
	p.Call("wait", unix.SYS_READ, 0, p.Pointer(unsafe.Pointer(new([8]byte))), 1)
	p.Call("exit", unix.SYS_EXIT_GROUP, 0)
	return p
}

// end kills the process and waits for it.
func end(child *sysprog.Child) {
	_ = unix.PidfdSendSignal(child.Pidfd, unix.SIGKILL, nil, 0)
	unix.Close(child.Pidfd)
	_ = child.Result() // it has none; this closes the pipe for it
	for {
		if _, err := unix.Wait4(child.PID, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
