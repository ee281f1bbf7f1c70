package root

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/namespace"
)

const insideVar = "WINDLASS_ROOT_TEST_INSIDE"

// TestMain runs the tests in a mount namespace of their own, which takes their mounts with it.
func TestMain(m *testing.M) {
	if play, is := map[string]func() error{firstProgram: first, nextProgram: next, refusedProgram: refuse}[filepath.Base(os.Args[0])]; is {
		if err := play(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	inside, code := namespace.Again(insideVar, unix.CLONE_NEWNS)
	if inside {
		code = m.Run()
	}
	os.Exit(code)
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestMountIsDoneOnce(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("t", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	done, err := Mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"/proc", "/sys", "/dev", "/dev/pts", "/run", "/tmp", "/sys/fs/cgroup"} {
		if !slices.Contains(done, want) {
			t.Errorf("%s was not mounted", want)
		}
	}
	if st, err := os.Stat(dir + "/tmp"); err != nil || st.Mode()&os.ModeSticky == 0 || st.Mode().Perm() != 0o777 {
		t.Errorf("/tmp: %v, %v", st.Mode(), err)
	}
	if again, err := Mount(dir); err != nil || len(again) > 0 {
		t.Errorf("the second time: %v, %v", again, err)
	}
}

func TestAllFilesMove(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	must(t, unix.Mount("t", from, "tmpfs", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(from, unix.MNT_DETACH) })
	j := filepath.Join
	must(t, os.MkdirAll(j(from, "a/b"), 0o755), os.WriteFile(j(from, "a/b/prog"), []byte("text"), 0o644), unix.Chmod(j(from, "a/b/prog"), 0o4711),
		os.Lchown(j(from, "a/b/prog"), 5, 6), unix.Chmod(j(from, "a/b/prog"), 0o4711), os.Symlink("a/b/prog", j(from, "init")),
		unix.Mkfifo(j(from, "fifo"), 0o600), unix.Mknod(j(from, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))), os.Mkdir(j(from, "private"), 0o700),
		os.Mkdir(j(from, "mnt"), 0o755), unix.Mount("u", j(from, "mnt"), "tmpfs", 0, ""), os.WriteFile(j(from, "mnt/stays"), nil, 0o600))
	t.Cleanup(func() { _ = unix.Unmount(j(from, "mnt"), unix.MNT_DETACH) })
	must(t, move(from, to))
	if text, err := os.ReadFile(j(to, "init")); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(j(to, "a/b/prog"), &st))
	if st.Mode != unix.S_IFREG|0o4711 || st.Uid != 5 || st.Gid != 6 {
		t.Errorf("%o %d:%d", st.Mode, st.Uid, st.Gid)
	}
	must(t, unix.Lstat(j(to, "null"), &st))
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("%o %x", st.Mode, st.Rdev)
	}
	must(t, unix.Lstat(j(to, "private"), &st))
	if st.Mode&0o777 != 0o700 {
		t.Errorf("%o", st.Mode)
	}
	left, err := os.ReadDir(from)
	if err != nil || len(left) != 1 || left[0].Name() != "mnt" {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(j(from, "mnt/stays")); err != nil {
		t.Error("what is mounted there was touched")
	}
}

func TestTheRootOfThisMachineIsNoInitramfs(t *testing.T) {
	if initial, err := Initial(); err != nil || initial {
		t.Errorf("%v, %v: init would empty it", initial, err)
	}
}

func TestTheProgramOfAnImage(t *testing.T) {
	dir := t.TempDir()
	if _, err := Program(dir); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	must(t, os.MkdirAll(dir+"/usr/lib/systemd", 0o755), os.Mkdir(dir+"/sbin", 0o755), os.WriteFile(dir+"/usr/lib/systemd/systemd", nil, 0o755),
		os.Symlink("/usr/lib/systemd/systemd", dir+"/sbin/init")) // absolute: inside of the image
	if p, err := Program(dir); err != nil || p != "/sbin/init" {
		t.Errorf("%q, %v", p, err)
	}
}

func TestTheKernelOfAnImage(t *testing.T) {
	dir := t.TempDir()
	if _, err := FindKernel(dir); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "no kernel") {
		t.Error(err)
	}
	must(t, os.Mkdir(dir+"/boot", 0o755))
	for _, n := range []string{"vmlinuz-6.9.1-amd64", "vmlinuz-6.10.0-amd64", "initrd.img-6.10.0-amd64", "initrd.img-6.9.1-amd64"} {
		must(t, os.WriteFile(dir+"/boot/"+n, nil, 0o600))
	}
	k, err := FindKernel(dir)
	if err != nil || k.Kernel != "/boot/vmlinuz-6.10.0-amd64" || k.Initrd != "/boot/initrd.img-6.10.0-amd64" {
		t.Errorf("%+v, %v", k, err)
	}
	must(t, os.Symlink("boot/vmlinuz-6.9.1-amd64", dir+"/vmlinuz"), os.Symlink("boot/initrd.img-6.9.1-amd64", dir+"/initrd.img"))
	if k, err = FindKernel(dir); err != nil || k.Kernel != "/vmlinuz" || k.Initrd != "/initrd.img" {
		t.Errorf("%+v, %v", k, err)
	}
}

func TestWhatAServerOfTheRootNeedsIsKept(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/program", nil, 0o755), os.WriteFile(dir+"/text", nil, 0o644))
	program, err := os.Stat(dir + "/program")
	must(t, err)
	text, err := os.Stat(dir + "/text")
	must(t, err)
	for _, path := range []string{"/bin/sh", "/sbin/x", "/bbin/bb", "/usr/bin/x/y", "/usr/local/sbin/z", "/init"} {
		if !idle(path, program) || idle(path, text) {
			t.Errorf("%s: a program is kept, or a text is not", path)
		}
	}
	for _, path := range []string{"/etc/script", "/usr", "/usr/local", "/usr/share/bin/x", "/var/cache/windlass/bin", "/lib/ld.so", "/binary"} {
		if idle(path, program) {
			t.Errorf("%s is removed", path)
		}
	}
	if !idle("/lib/modules/6.1/a.ko", text) || !idle("/usr/lib/firmware/b", text) {
		t.Error("parts of the kernel are kept")
	}
}
