package linux_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/containertest"
	"github.com/windlass-hpc/windlass/container/linux"
	"github.com/windlass-hpc/windlass/internal/cgroup"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// shim is the program under test, built once.
var shim string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	if dir := os.Getenv(daemonEnv); dir != "" {
		return daemon(dir)
	}
	if shim = os.Getenv(shimEnv); shim != "" { // built by who runs this where there is no compiler
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "windlass-shim")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	shim = filepath.Join(dir, "windlass-shim")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", shim, "github.com/windlass-hpc/windlass/cmd/windlass-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the shim: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

const logSize = 64 << 10

func config(dir rundir.Dir) linux.Config {
	return linux.Config{RunDir: dir, Shim: shim, LogSize: logSize}
}

// newRuntime makes a runtime whose leftovers in the kernel are a failure.
func newRuntime(t *testing.T) (*linux.Runtime, rundir.Dir) {
	t.Helper()
	dir := rundir.Dir(t.TempDir())
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	r, err := linux.New(config(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nothingLeft(t, dir) })
	return r, dir
}

func nothingLeft(t *testing.T, dir rundir.Dir) {
	t.Helper()
	host, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	top := host.Instance("", dir.Instance())
	if top.Exists() {
		out, _ := exec.Command("find", top.Dir, "-type", "d").Output()
		t.Errorf("cgroups are left: %v\n%s", top, out)
	}
	if entries, err := os.ReadDir(dir.Containers()); err != nil || len(entries) > 0 {
		t.Errorf("directories are left: %v %v", entries, err)
	}
	if out, err := exec.Command("pgrep", "-af", "^windlass-shim "+dir.Instance()+" ").Output(); err == nil {
		t.Errorf("shims are left:\n%s", out)
	}
}

// debian gives the Debian with systemd that all tests share; test/rootfs.sh makes it when it is not there.
func debian(t *testing.T) string {
	t.Helper()
	root := filepath.Join(cmp.Or(os.Getenv("WINDLASS_CACHE"), "/var/cache/windlass-test"), "debian-rootfs")
	if _, err := os.Stat(root + ".complete"); err == nil {
		return root
	}
	if out, err := exec.Command("../../test/rootfs.sh").CombinedOutput(); err != nil {
		t.Fatalf("make a Debian root: %v\n%s", err, out)
	}
	return root
}

func TestConformance(t *testing.T) {
	dirs := map[container.Runtime]rundir.Dir{}
	containertest.Run(t, containertest.Harness{
		New: func(t *testing.T) container.Runtime {
			r, dir := newRuntime(t)
			dirs[r] = dir
			return r
		},
		Again: func(t *testing.T, r container.Runtime) container.Runtime {
			again, err := linux.New(config(dirs[r]))
			if err != nil {
				t.Fatal(err)
			}
			dirs[again] = dirs[r]
			return again
		},
		SystemdRoot: debian(t),
		LogSize:     logSize,
	})
}

// shimOf finds the shim of a container.
func shimOf(t *testing.T, dir rundir.Dir, id container.ID) int {
	t.Helper()
	out, err := exec.Command("pgrep", "-f", fmt.Sprintf("^windlass-shim %s %d$", dir.Instance(), id)).Output()
	if err != nil {
		t.Fatalf("no shim of container %d: %v", id, err)
	}
	var pid int
	if _, err := fmt.Sscan(string(out), &pid); err != nil {
		t.Fatal(err)
	}
	return pid
}

// A killed shim takes its container with it, and that is known, also when nobody watched.
func TestShimKilled(t *testing.T) {
	for _, watched := range []bool{true, false} {
		t.Run(fmt.Sprintf("watched=%v", watched), func(t *testing.T) {
			r, dir := newRuntime(t)
			ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
			defer cancel()
			st, err := r.Start(ctx, 1, containertest.Shell("sleep 1000 & sleep 1000"), containertest.BusyboxRoot(t))
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := r.Remove(ctx, 1); err != nil {
					t.Error(err)
				}
			}()
			var ch <-chan container.Status
			if watched {
				if ch, err = r.Watch(ctx, 1); err != nil {
					t.Fatal(err)
				}
				<-ch
			}
			pidfd, err := unix.PidfdOpen(st.PID, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pidfd)
			if err := unix.Kill(shimOf(t, dir, 1), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if watched {
				st = <-ch
			} else {
				waitRefused(t, dir)
				again, err := linux.New(config(dir))
				if err != nil {
					t.Fatal(err)
				}
				if st, err = again.Status(ctx, 1); err != nil {
					t.Fatal(err)
				}
			}
			if st.State != container.Exited || !strings.Contains(st.Error, "shim was killed") {
				t.Errorf("ended as %+v", st)
			}
			// Of its cgroup it goes a moment before those who wait for it are told.
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 1000); n != 1 {
				t.Errorf("its first process still runs: %d %v", n, err)
			}
		})
	}
}

// A shim that does nothing any more does not keep its container from being killed and removed.
func TestShimStuck(t *testing.T) {
	r, dir := newRuntime(t)
	ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
	defer cancel()
	if _, err := r.Start(ctx, 1, containertest.Shell("sleep 1000"), containertest.BusyboxRoot(t)); err != nil {
		t.Fatal(err)
	}
	stop(t, shimOf(t, dir, 1))
	if _, err := r.Status(ctx, 1); !fault.Is(err, fault.Unavailable) {
		t.Errorf("status: %v", err)
	}
	if err := r.Kill(ctx, 1); err != nil {
		t.Error(err)
	}
	if st, err := r.Status(ctx, 1); err != nil || st.State != container.Exited {
		t.Errorf("killed: %+v %v", st, err)
	}
	if err := r.Remove(ctx, 1); err != nil {
		t.Error(err)
	}
}

// stop stops a process and waits until all its threads have heard of it: one that runs on another processor may still answer.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		out, err := exec.Command("sh", "-c", fmt.Sprintf("cat /proc/%d/task/*/status", pid)).Output()
		if err != nil {
			t.Fatalf("look at the shim: %v", err)
		}
		if n := strings.Count(string(out), "\nState:\t"); n > 0 && n == strings.Count(string(out), "\nState:\tT ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the shim does not stop:\n%s", out)
		}
	}
}

// Many starts and execs leave no descriptor and no goroutine behind.
func TestNoLeaks(t *testing.T) {
	r, _ := newRuntime(t)
	root := containertest.BusyboxRoot(t)
	ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
	defer cancel()
	round := func(id container.ID) {
		if _, err := r.Start(ctx, id, containertest.Shell("sleep 1000"), root); err != nil {
			t.Fatal(err)
		}
		for _, tty := range []bool{true, false} {
			p, err := r.Exec(ctx, id, &models.ExecSpec{Command: []string{"true"}, Tty: &tty})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Wait(ctx); err != nil {
				t.Error(err)
			}
			p.Close()
			if _, err := r.Exec(ctx, id, &models.ExecSpec{Command: []string{"nonesuch"}, Tty: &tty}); err == nil {
				t.Error("executed what is not there")
			}
		}
		l, err := r.OpenLog(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		short, stop := context.WithTimeout(ctx, 5*time.Millisecond)
		_ = l.WaitMore(short, 0)
		stop()
		l.Close()
		if _, err := r.Start(ctx, id+1, containertest.Spec("/bin/nonesuch"), root); err == nil {
			t.Error("started what is not there")
		}
		if err := r.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	open := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	round(1)
	files, routines := open(), runtime.NumGoroutine()
	for i := range 20 {
		round(container.ID(2*i + 3))
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if open() <= files && runtime.NumGoroutine() <= routines {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d files were open and are %d; %d goroutines ran and are %d", files, open(), routines, runtime.NumGoroutine())
		}
	}
}

// Processes that follow each other closely do not die of the end of the one before.
func TestExecsInARow(t *testing.T) {
	r, _ := newRuntime(t)
	ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
	defer cancel()
	if _, err := r.Start(ctx, 1, containertest.Shell("sleep 1000"), containertest.BusyboxRoot(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Remove(context.Background(), 1); err != nil {
			t.Error(err)
		}
	})
	for i := range 500 {
		p, err := r.Exec(ctx, 1, &models.ExecSpec{Command: []string{"true"}})
		if err != nil {
			t.Fatal(err)
		}
		exit, err := p.Wait(ctx)
		p.Close()
		if err != nil || exit.Code != 0 {
			t.Fatalf("exec %d ended with %+v, %v", i, exit, err)
		}
	}
}

// What was prepared for a start that does not come goes again, and what Remove finds of it Remove takes away.
func TestPreparedInVain(t *testing.T) {
	r, dir := newRuntime(t)
	ctx, cancel := context.WithTimeout(context.Background(), containertest.Patience)
	defer cancel()
	for id := container.ID(1); id <= 10; id++ {
		unused := r.Prepare(ctx, id, "/nonesuch")
		unused()
		unused()
		if err := r.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir.Container(int64(id))); !os.IsNotExist(err) {
			t.Errorf("the directory of %d is left: %v", id, err)
		}
	}
	root := containertest.BusyboxRoot(t)
	unused := r.Prepare(ctx, 11, root)
	if _, err := r.Start(ctx, 11, containertest.Spec("/bin/nonesuch"), root); err == nil {
		t.Error("started what is not there")
	}
	unused()
	if st, err := r.Status(ctx, 11); err != nil || st.State != container.Absent {
		t.Errorf("after a start that failed: %+v %v", st, err)
	}
	unused = r.Prepare(ctx, 12, root)
	if _, err := r.Start(ctx, 12, containertest.Shell("sleep 1000"), root); err != nil {
		t.Fatal(err)
	}
	unused()
	if st, err := r.Status(ctx, 12); err != nil || st.State != container.Running {
		t.Errorf("prepared and started: %+v %v", st, err)
	}
	if err := r.Remove(ctx, 12); err != nil {
		t.Fatal(err)
	}
}

// waitRefused waits until the killed shim's socket is closed.
func waitRefused(t *testing.T, dir rundir.Dir) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if exec.Command("pgrep", "-f", fmt.Sprintf("^windlass-shim %s 1$", dir.Instance())).Run() != nil {
			return
		}
	}
	t.Fatal("the shim does not die")
}

func TestNewRefuses(t *testing.T) {
	dir := rundir.Dir(t.TempDir())
	for name, c := range map[string]struct {
		cfg  linux.Config
		want string
	}{
		"no shim":          {linux.Config{RunDir: dir, Shim: "/nowhere/windlass-shim"}, "/nowhere/windlass-shim"},
		"no cgroup parent": {linux.Config{RunDir: dir, Shim: shim, CgroupParent: "nowhere.slice"}, "nowhere.slice"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := linux.New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
