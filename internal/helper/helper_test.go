package helper_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// daemonVar makes the test binary a daemon that has a helper mount an overlay on the directory that it names.
const daemonVar = "WINDLASS_HELPER_TEST_LOWER"

// shim is windlass-shim, built once.
var shim string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if lower := os.Getenv(daemonVar); lower != "" {
		_, err := helper.New(os.Getenv(helpertest.ShimVar)).Create(context.Background(), "overlay", overlay(lower), 0)
		fmt.Println(err)
		return 0
	}
	dir, err := os.MkdirTemp("", "windlass-helper")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if shim, err = helpertest.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, "build the shim:", err)
		return 1
	}
	return m.Run()
}

func overlay(lower string) []fsmount.Option {
	return []fsmount.Option{{Key: "source", Value: "test"}, {Key: "lowerdir", Value: lower + ":/usr"}}
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := helper.New(shim)
	if err := r.Write(t.Context(), path, []byte("now")); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "nowit was" { // written, neither truncated nor replaced
		t.Errorf("it holds %q, %v", b, err)
	}
	for what, test := range map[string]struct {
		path string
		data string
		want error
	}{
		"no such file":       {path + "x", "secret", unix.ENOENT},
		"a directory":        {filepath.Dir(path), "secret", unix.EISDIR},
		"the kernel refuses": {"/proc/self/oom_score_adj", "secret", unix.EINVAL},
		"full":               {"/dev/full", "secret", unix.ENOSPC},
		"larger than a page": {path, strings.Repeat("x", 64<<10), nil},
	} {
		t.Run(what, func(t *testing.T) {
			err := r.Write(t.Context(), test.path, []byte(test.data))
			if !errors.Is(err, test.want) || err != nil && (!strings.Contains(err.Error(), test.path) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if err := r.Write(t.Context(), path, make([]byte, 1<<20)); err == nil || strings.Contains(err.Error(), "AAAA") {
		t.Errorf("a megabyte: %v", err)
	}
}

func TestCreate(t *testing.T) {
	r, dir := helper.New(shim), t.TempDir()
	mnt, err := r.Create(t.Context(), "tmpfs", []fsmount.Option{{Key: "size", Value: "1m"}}, unix.MOUNT_ATTR_NODEV)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsmount.Move(t.Context(), mnt, dir); err != nil {
		t.Fatal(err)
	}
	mnt.Close()
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if i, err := fsmount.At(dir); err != nil || i == nil || i.FSType != "tmpfs" || !strings.Contains(i.Options, "nodev") {
		t.Fatalf("there is %+v, %v", i, err)
	}
	if err := r.Statfs(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if err := r.Sync(t.Context(), dir); err != nil {
		t.Error(err)
	}
	// The helper has gone, so nothing keeps the mount busy.
	if err := r.Unmount(t.Context(), dir, unix.UMOUNT_NOFOLLOW); err != nil {
		t.Fatal(err)
	}
	if i, err := fsmount.At(dir); err != nil || i != nil {
		t.Errorf("there is %+v, %v", i, err)
	}
	if err := r.Unmount(t.Context(), dir, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("unmount twice: %v", err)
	}
	if err := r.Statfs(t.Context(), dir+"/no"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("statfs of nothing: %v", err)
	}
}

func TestCreateTellsWhatTheKernelSays(t *testing.T) {
	r := helper.New(shim)
	for _, c := range []struct {
		fsType string
		opt    fsmount.Option
		kind   fault.Kind
		op     string
		says   string
	}{
		{"nosuchfs", fsmount.Option{Key: "ro", Flag: true}, fault.Unsupported, fsmount.OpOpen, "no file system nosuchfs"},
		{"tmpfs", fsmount.Option{Key: "colour", Value: "red"}, fault.Invalid, fsmount.OpOption, "Unknown parameter 'colour'"},
		{"ext4", fsmount.Option{Key: "source", Value: "/dev/nosuchdevice"}, fault.NotFound, fsmount.OpCreate, "/dev/nosuchdevice"},
	} {
		_, err := r.Create(t.Context(), c.fsType, []fsmount.Option{c.opt}, 0)
		var e *fsmount.Error
		if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) || !errors.As(err, &e) || e.Op != c.op {
			t.Errorf("%s: %v (%s)", c.fsType, err, fault.KindOf(err))
		}
	}
}

func TestAnOptionThatIsAFile(t *testing.T) {
	opts := []fsmount.Option{{Key: "source", Value: "test"}}
	for range 2 {
		dir, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		opts = append(opts, fsmount.Option{Key: "lowerdir+", File: dir})
	}
	if takes, err := fsmount.Takes("overlay", opts[1]); err != nil || !takes {
		t.Skipf("this kernel has no file system with an option that is a file: %v", err)
	}
	mnt, err := helper.New(shim).Create(t.Context(), "overlay", opts, 0)
	if err != nil {
		t.Fatal(err)
	}
	mnt.Close()
}

func fuseOptions(dev *os.File) []fsmount.Option {
	return []fsmount.Option{{Key: "source", Value: "test"}, {Key: "fd", Value: strconv.Itoa(int(dev.Fd()))}, {Key: "rootmode", Value: "40000"},
		{Key: "user_id", Value: "0"}, {Key: "group_id", Value: "0"}}
}

// pidOf finds the helper that this process runs.
func pidOf(t *testing.T, parent int) int {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
		for _, task := range tasks {
			b, _ := os.ReadFile(task)
			for _, field := range strings.Fields(string(b)) {
				cmdline, _ := os.ReadFile("/proc/" + field + "/cmdline")
				if pid, err := strconv.Atoi(field); err == nil && string(cmdline) == "windlass-shim\x00helper\x00" {
					return pid
				}
			}
		}
	}
	t.Fatal("there is no helper")
	return 0
}

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOrdersAreNotSeen: the order of a helper that waits may hold a secret.
func TestOrdersAreNotSeen(t *testing.T) {
	path, r := fifo(t), helper.New(shim)
	done := make(chan error, 1)
	go func() { done <- r.Write(t.Context(), path, []byte("name=admin,secret=tell-nobody")) }()
	pid := pidOf(t, os.Getpid())
	for _, file := range []string{"cmdline", "environ", "comm"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil || strings.Contains(string(b), "tell-nobody") || strings.Contains(string(b), path) {
			t.Errorf("%s says %q, %v", file, b, err)
		}
	}
	f, err := os.Open(path) // now the helper goes on
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "name=admin,secret=tell-nobody" {
		t.Errorf("written was %q, %v", b, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWhatCanBeKilledIsKilled(t *testing.T) {
	path, r := fifo(t), helper.New(shim)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Write(ctx, path, []byte("x")) }()
	pid := pidOf(t, os.Getpid())
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), path) {
		t.Errorf("cancelled: %v", err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the helper is there: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.Write(ctx, path, []byte("x")); !fault.Is(err, fault.Timeout) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer in ") {
		t.Errorf("a deadline: %v (%s)", err, fault.KindOf(err))
	}
	if left := r.Left(); len(left) != 0 {
		t.Errorf("left are %+v", left)
	}
	cancel()
	if err := r.Write(ctx, path, []byte("x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestNoShim(t *testing.T) {
	err := helper.New("/nowhere/windlass-shim").Statfs(t.Context(), "/")
	if !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "/nowhere/windlass-shim") {
		t.Error(err)
	}
	err = helper.New("/bin/false").Statfs(t.Context(), "/")
	if err == nil || !strings.Contains(err.Error(), "without an answer: exit status 1") {
		t.Error(err)
	}
}

// TestTheDaemonIsKilled: its helper dies with it, and the mount that it was making is nowhere.
func TestTheDaemonIsKilled(t *testing.T) {
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	mnt, err := fsmount.Create(t.Context(), "fuse", fuseOptions(dev), 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := fsmount.Move(t.Context(), mnt, dir); err != nil {
		t.Fatal(err)
	}
	mnt.Close()
	t.Cleanup(func() { dev.Close(); _ = unix.Unmount(dir, unix.MNT_DETACH) })

	daemon := exec.Command("/proc/self/exe")
	daemon.Env = append(os.Environ(), daemonVar+"="+dir+"/x", helpertest.ShimVar+"="+shim)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidOf(t, daemon.Process.Pid)
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	awaitSyscall(t, pid, unix.SYS_FSCONFIG)
	_ = daemon.Process.Kill()
	said, _ := io.ReadAll(out)
	_ = daemon.Wait()
	if len(said) > 0 {
		t.Fatalf("the daemon came to an end by itself: %s", said)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 20000); n != 1 {
		t.Errorf("the helper lives: %v", err)
	}
	if infos, err := mountinfo.Below(dir); err != nil || len(infos) != 1 {
		t.Errorf("mounts: %v, %v", infos, err)
	}
}

// awaitSyscall waits until a thread of the process waits in a system call.
func awaitSyscall(t *testing.T, pid, nr int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		for _, task := range tasks {
			if b, _ := os.ReadFile(task); strings.HasPrefix(string(b), strconv.Itoa(nr)+" ") {
				return
			}
		}
	}
	t.Fatalf("process %d does not come to system call %d", pid, nr)
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := helper.New(shim)
	f, err := r.Open(t.Context(), path, unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE != unix.O_RDWR || f.Name() != path {
		t.Errorf("%s is open with flags %#x, %v", f.Name(), flags, err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != "content" {
		t.Errorf("it holds %q, %v", b, err)
	}
	if inherited, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || inherited&unix.FD_CLOEXEC == 0 {
		t.Errorf("children would inherit it: %#x, %v", inherited, err)
	}
	if f, err := r.Open(t.Context(), path+"x", unix.O_RDONLY); !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), path) || f != nil {
		t.Errorf("no such file: %v, %v", f, err)
	}
}
