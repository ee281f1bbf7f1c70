//go:build guest

package linux_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/containertest"
	"github.com/windlass-hpc/windlass/container/linux"
	"github.com/windlass-hpc/windlass/internal/cgroup"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// What follows wants a node that has cgroup version 2 alone; test/guest is one.

// unified is a container's place on such a node.
func unified(t *testing.T, dir rundir.Dir, parent string, id container.ID) cgroup.Group {
	t.Helper()
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	if len(host.Legacy) > 0 {
		t.Fatalf("controllers of version 1 are mounted: %v", host.Legacy)
	}
	return host.Instance(parent, dir.Instance()).Child(strconv.FormatInt(int64(id), 10))
}

// begin starts container 1, which is removed at the end.
func begin(t *testing.T, r *linux.Runtime, spec *models.Container) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
	t.Cleanup(cancel)
	if _, err := r.Start(ctx, 1, spec, containertest.BusyboxRoot(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Remove(context.Background(), 1); err != nil {
			t.Error(err)
		}
	})
	return ctx
}

// inside runs a shell script in container 1 and gives what it writes.
func inside(ctx context.Context, t *testing.T, r *linux.Runtime, script string) string {
	t.Helper()
	p, err := r.Exec(ctx, 1, &models.ExecSpec{Command: []string{"sh", "-c", "exec 2>&1; " + script}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := io.ReadAll(p.Stdout())
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func wantFile(t *testing.T, dir, file, want string) {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join(dir, file)); err != nil || strings.TrimSpace(string(b)) != want {
		t.Errorf("%s: %q %v, want %q", file, b, err, want)
	}
}

// The limits hold for the first process, what it starts and what is executed, since they lie above all of them.
func TestUnifiedLimits(t *testing.T) {
	r, dir := newRuntime(t)
	spec := containertest.Shell(containertest.Sleeper)
	spec.Limits = &models.ContainerLimits{Memory: 64 << 20, Pids: 20, CPU: 0.5}
	ctx := begin(t, r, spec)
	g := unified(t, dir, "", 1)
	for file, want := range map[string]string{"memory.max": "67108864", "memory.swap.max": "0", "pids.max": "20", "cpu.max": "50000 100000", "cgroup.procs": ""} {
		wantFile(t, g.Dir, file, want)
	}
	if out := inside(ctx, t, r, "dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?"); !strings.Contains(out, "137") {
		t.Errorf("a process executed with too much memory says %q", out)
	}
	if st, err := r.Status(ctx, 1); err != nil || st.State != container.Running {
		t.Errorf("the container: %+v %v", st, err)
	}
	if n := g.OOMKills(); n != 1 {
		t.Errorf("%d processes were killed for want of memory", n)
	}
}

// The first process and what is executed are in leaves of their own, since the container may turn controllers on in its.
func TestUnifiedLeaves(t *testing.T) {
	r, dir := newRuntime(t)
	ctx := begin(t, r, containertest.Shell(containertest.Sleeper))
	g := unified(t, dir, "", 1)
	if out := inside(ctx, t, r, "cat /proc/1/cgroup /proc/self/cgroup"); out != "0::/\n0::/../attach\n" {
		t.Errorf("seen inside: %q", out)
	}
	st, err := r.Status(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, "/proc/"+strconv.Itoa(st.PID), "cgroup", "0::"+strings.TrimPrefix(g.Payload(), "/sys/fs/cgroup"))
	wantFile(t, g.Attach(), "cgroup.events", "populated 0\nfrozen 0")
}

// The container gets what is below its cgroup and not the limits of that itself.
func TestUnifiedDelegation(t *testing.T) {
	for name, namespaces := range map[string][]models.ContainerNamespace{"root": nil, "user namespace": {"user"}} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRuntime(t)
			spec := containertest.Shell(`cd /sys/fs/cgroup; mkdir leaf work; for p in $(cat cgroup.procs); do echo $p > leaf/cgroup.procs; done; echo "+cpu +memory +pids" > cgroup.subtree_control; echo up; while true; do sleep 1000; done`)
			spec.Namespaces, spec.Limits = namespaces, &models.ContainerLimits{Pids: 20}
			ctx := begin(t, r, spec)
			out := inside(ctx, t, r, `cd /sys/fs/cgroup; until [ -n "$(cat cgroup.subtree_control)" ]; do sleep 0.05; done; cat cgroup.subtree_control; echo 3 > work/pids.max; cat work/pids.max; ls -d memory.max work/memory.max work/cpu.max; for f in pids.max memory.max cgroup.freeze; do echo 0 > $f; done`)
			for _, want := range []string{"cpu memory pids\n3\n", "work/memory.max\n", "work/cpu.max\n"} {
				if !strings.Contains(out, want) {
					t.Errorf("lacks %q:\n%s", want, out)
				}
			}
			if n := strings.Count(out, "Operation not permitted") + strings.Count(out, "Permission denied"); n != 3 {
				t.Errorf("its own limits and state are refused %d times of 3:\n%s", n, out)
			}
			if out := inside(ctx, t, r, "echo still"); out != "still\n" {
				t.Errorf("executed after that: %q", out)
			}
		})
	}
}

// A configured parent is used, also for limits; one that has processes of its own cannot, and says so.
func TestUnifiedParent(t *testing.T) {
	const parent = "windlass-test.slice"
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	slice := filepath.Join(host.Unified, parent)
	if err := os.Mkdir(slice, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Rmdir(slice); err != nil {
			t.Errorf("remove %s: %v", slice, err)
		}
	})
	for _, busy := range []bool{true, false} {
		t.Run("busy="+strconv.FormatBool(busy), func(t *testing.T) { testParent(t, parent, slice, busy) })
	}
}

func testParent(t *testing.T, parent, slice string, busy bool) {
	_, dir := newRuntime(t)
	cfg := config(dir)
	cfg.CgroupParent = parent
	r, err := linux.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	spec := containertest.Shell(containertest.Sleeper)
	spec.Limits = &models.ContainerLimits{Pids: 20}
	if !busy {
		begin(t, r, spec)
		wantFile(t, unified(t, dir, parent, 1).Dir, "pids.max", "20")
		return
	}
	occupant := exec.Command("sleep", "1000")
	if err := occupant.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := occupant.Process.Kill()
		_ = occupant.Wait()
		if err = errors.Join(err, cgroup.Group{Dir: slice}.WaitEmpty(context.Background())); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(slice, "cgroup.procs"), []byte(strconv.Itoa(occupant.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	_, err = r.Start(context.Background(), 1, spec, containertest.BusyboxRoot(t))
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(fault.HintOf(err), parent) {
		t.Errorf("got %v, hint %q", err, fault.HintOf(err))
	}
	if left, err := filepath.Glob(slice + "/*/"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
