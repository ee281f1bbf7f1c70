package daemon

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/test/nodestate"
)

// clear reports what a test has left and takes it away, so that the next one begins on a clean machine.
func (n *Node) clear(dir string) {
	left := n.Left()
	if len(left) > 0 {
		n.t.Errorf("left on the node:\n  %s", strings.Join(left, "\n  "))
		n.sweep()
	}
	if mounted, err := mountinfo.Below(dir); err != nil || len(mounted) > 0 {
		n.t.Errorf("%s is not removed, something is still mounted in it: %v", dir, err)
		return
	}
	if err := os.RemoveAll(dir); err != nil {
		n.t.Error(err)
	}
}

// sweep takes away what is left of the node by force: its processes, mounts, loop and rbd devices. Only a test that has failed needs it.
// iSCSI sessions stay: without what the daemon knows of them nobody can end them; they are in guests only.
func (n *Node) sweep() {
	for _, item := range n.state().Items {
		if item.Class == nodestate.Process && item.PID > 0 {
			_ = syscall.Kill(item.PID, syscall.SIGKILL)
		}
	}
	mounted, _ := mountinfo.Below(string(n.Dir))
	for _, m := range slices.Backward(mounted) {
		_ = syscall.Unmount(m.Mountpoint, syscall.MNT_DETACH)
	}
	for _, item := range n.state().Of(nodestate.RBD) {
		unmap(item)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, "losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE").Output()
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && strings.Contains(line, n.Dir.Instance()+"/") {
			_ = exec.CommandContext(ctx, "losetup", "--detach", f[0]).Run()
		}
	}
}

// unmap takes an rbd device away by force. It may block in the kernel, so it is not waited for without end.
func unmap(item nodestate.Item) {
	device, _, _ := strings.Cut(item.Detail, " ")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, file := range []string{"remove_single_major", "remove"} {
			line := []byte(strings.TrimPrefix(device, "/dev/rbd") + " force")
			if os.WriteFile(filepath.Join("/sys/bus/rbd", file), line, 0) == nil {
				return
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
}
