package holders_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/holders"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// tmpfs mounts one and gives its mountpoint and mount id.
func tmpfs(t *testing.T) (string, uint64) {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v, held by %s", err, holders.Text(holders.OfMount(must(mountinfo.ID(dir)), dir)))
		}
	})
	id, err := mountinfo.ID(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, id
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// start runs a process until the test ends.
func start(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestOfMount(t *testing.T) {
	tests := map[string]func(t *testing.T, dir string) (want string){
		"working directory": func(t *testing.T, dir string) string {
			cmd := exec.Command("sleep", "60")
			cmd.Dir = dir
			return fmt.Sprintf("pid %d (sleep): working directory %s", start(t, cmd), dir)
		},
		"open file": func(t *testing.T, dir string) string {
			f := must(os.Create(filepath.Join(dir, "open")))
			defer f.Close()
			cmd := exec.Command("sleep", "60")
			cmd.Stdin = f
			return fmt.Sprintf("pid %d (sleep): open file %s/open", start(t, cmd), dir)
		},
		"program": func(t *testing.T, dir string) string {
			copyFile(t, must(exec.LookPath("sleep")), filepath.Join(dir, "sleep"))
			return fmt.Sprintf("pid %d (sleep): program %s/sleep", start(t, exec.Command(filepath.Join(dir, "sleep"), "60")), dir)
		},
		"mapped file": func(t *testing.T, dir string) string {
			f := must(os.Create(filepath.Join(dir, "mapped")))
			defer f.Close()
			if err := f.Truncate(4096); err != nil {
				t.Fatal(err)
			}
			m := must(unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED))
			t.Cleanup(func() { _ = unix.Munmap(m) })
			return fmt.Sprintf("pid %d (holders.test): mapped file %s/mapped", os.Getpid(), dir)
		},
		"mount on it": func(t *testing.T, dir string) string {
			below := filepath.Join(dir, "below")
			if err := os.Mkdir(below, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(below, 0) })
			return fmt.Sprintf("mount %d at %s in the mount namespace of pid ", must(mountinfo.ID(below)), below)
		},
		"hostile names": func(t *testing.T, dir string) string {
			program := filepath.Join(dir, "a\x1b[2J\nb")
			copyFile(t, must(exec.LookPath("sleep")), program)
			pid := start(t, exec.Command(program, "60"))
			return fmt.Sprintf("pid %d (a?[2J?b): program %s/a?[2J?b", pid, dir)
		},
	}
	for what, hold := range tests {
		t.Run(what, func(t *testing.T) {
			dir, id := tmpfs(t)
			want := hold(t, dir)
			if got := holders.Text(holders.OfMount(id, dir)); !strings.Contains(got, want) {
				t.Errorf("%s\nwant %s", got, want)
			}
		})
	}
}

func TestOfMountThatNobodyHolds(t *testing.T) {
	dir, id := tmpfs(t)
	if got := holders.OfMount(id, dir); len(got) != 0 {
		t.Errorf("held by %q", got)
	}
}

func TestTheNumberOfHoldersIsBounded(t *testing.T) {
	dir, id := tmpfs(t)
	for n := range 30 {
		f := must(os.Create(filepath.Join(dir, fmt.Sprint(n))))
		t.Cleanup(func() { f.Close() })
	}
	got := holders.OfMount(id, dir)
	if len(got) != 17 || got[16] != "and more" {
		t.Errorf("%d holders, the last is %q", len(got), got[len(got)-1])
	}
}

// disk makes a loop device with an ext4 file system, by losetup: this package is below ours that makes loop devices.
func disk(t *testing.T) (string, uint64) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	run(t, "truncate", "-s", "4M", image)
	run(t, "mkfs.ext4", "-q", image)
	dev := run(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() { run(t, "losetup", "--detach", dev) })
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil {
		t.Fatal(err)
	}
	return dev, uint64(st.Rdev)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

func mountDisk(t *testing.T, dev, dir string) {
	t.Helper()
	if err := unix.Mount(dev, dir, "ext4", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
}

func TestOfDevice(t *testing.T) {
	tests := map[string]func(t *testing.T, dev string) (want string){
		"mounted": func(t *testing.T, dev string) string {
			dir := t.TempDir()
			mountDisk(t, dev, dir)
			return " at " + dir + " in the mount namespace of pid "
		},
		"mounted in another mount namespace": func(t *testing.T, dev string) string {
			dir := t.TempDir()
			cmd := exec.Command("sh", "-c", `mount -o ro "$0" "$1" && echo mounted && exec sleep 60`, dev, dir)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
			out := must(cmd.StdoutPipe())
			pid := start(t, cmd)
			if _, err := fmt.Fscanln(out, new(string)); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf(" at %s in the mount namespace of pid %d (", dir, pid)
		},
		"open": func(t *testing.T, dev string) string {
			f := must(os.Open(dev))
			t.Cleanup(func() { f.Close() })
			return fmt.Sprintf("pid %d (holders.test): open file %s", os.Getpid(), dev)
		},
		"detached lazily, still in use": func(t *testing.T, dev string) string {
			dir := t.TempDir()
			mountDisk(t, dev, dir)
			f := must(os.Open(dir))
			t.Cleanup(func() { f.Close() })
			if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("pid %d (holders.test): open file /", os.Getpid())
		},
		"under a loop device": func(t *testing.T, dev string) string {
			above := run(t, "losetup", "--find", "--show", "--read-only", dev)
			t.Cleanup(func() { run(t, "losetup", "--detach", above) })
			return "loop device " + above + " on " + dev
		},
	}
	for what, hold := range tests {
		t.Run(what, func(t *testing.T) {
			dev, num := disk(t)
			want := hold(t, dev)
			if got := holders.Text(holders.OfDevice(num)); !strings.Contains(got, want) {
				t.Errorf("%s\nwant %s", got, want)
			}
		})
	}
}

func TestOfDeviceThatNobodyHolds(t *testing.T) {
	_, num := disk(t)
	if got := holders.OfDevice(num); len(got) != 0 {
		t.Errorf("held by %q", got)
	}
}
