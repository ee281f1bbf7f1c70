// Package smallroot makes the smallest root file system that a test can run commands in: busybox, linked statically.
package smallroot

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Busybox is where Debian's busybox-static puts it.
const Busybox = "/bin/busybox"

// Waits is a command that runs until it is told to stop, and then ends with code 0.
const Waits = `/bin/sh -c 'trap "exit 0" TERM; echo started; while :; do sleep 1000 & wait $!; done'`

// Dir makes the tree at dir, which must not exist.
func Dir(t testing.TB, dir string) string {
	t.Helper()
	for _, d := range []string{"bin", "sbin", "etc", "dev", "proc", "sys", "run", "tmp", "root", "var"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(Busybox)
	if err != nil {
		t.Fatalf("%v: install Debian's busybox-static, as test/install.sh does", err)
	}
	write(t, filepath.Join(dir, "bin/busybox"), data, 0o755)
	write(t, filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n"), 0o644)
	write(t, filepath.Join(dir, "etc/group"), []byte("root:x:0:\nuser:x:1000:\n"), 0o644)
	for _, name := range []string{"sh", "true", "false", "sleep", "cat", "echo", "ls", "id", "env", "hostname", "mount", "touch", "kill", "ps", "dd", "stat", "head"} {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Image packs the tree into an image that goes with the test, and gives its path.
func Image(t testing.TB) string {
	t.Helper()
	return Squashfs(t, filepath.Join(t.TempDir(), "root.squashfs"))
}

// Squashfs packs the tree and gives the image's path.
func Squashfs(t testing.TB, image string) string {
	t.Helper()
	dir := Dir(t, filepath.Join(t.TempDir(), "root"))
	out, err := exec.Command("mksquashfs", dir, image, "-quiet", "-no-progress", "-noappend", "-comp", "zstd").CombinedOutput()
	if err != nil {
		t.Fatalf("mksquashfs: %v\n%s", err, out)
	}
	return image
}

func write(t testing.TB, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}
