package mounttest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/mount"
)

// Files is the content of Tree and of Image, in the form of Case.Files.
func Files() map[string]string {
	return map[string]string{"hello": "hello, world\n", "dir/deep/file": "deep\n"}
}

// Tree makes a directory with Files in it.
func Tree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	Write(t, dir, Files())
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Write writes files below dir.
func Write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Image makes an image file of a file system with Files in it.
func Image(t testing.TB, fsType string) string {
	t.Helper()
	return ImageOf(t, fsType, Tree(t))
}

// ImageOf makes an image file of a file system with what is in tree; an xfs has only Files.
func ImageOf(t testing.TB, fsType, tree string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image."+fsType)
	switch fsType {
	case "squashfs":
		Command(t, "mksquashfs", tree, image, "-quiet", "-no-progress")
	case "erofs":
		Command(t, "mkfs.erofs", "-z", "lz4", image, tree)
	case "ext4":
		sparse(t, image, 16<<20)
		Command(t, "mkfs.ext4", "-q", "-F", "-d", tree, image)
	case "xfs":
		sparse(t, image, 300<<20)
		Command(t, "mkfs.xfs", "-q", "-f", "-p", proto(t, tree), image)
	case "btrfs":
		sparse(t, image, 128<<20)
		Command(t, "mkfs.btrfs", "-q", "-f", "--rootdir", tree, image)
	default:
		t.Fatalf("no image of %s can be made", fsType)
	}
	return image
}

func sparse(t testing.TB, path string, size int64) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// proto describes Files as mkfs.xfs(8) wants it.
func proto(t testing.TB, tree string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proto")
	text := fmt.Sprintf("/\n0 0\nd--755 0 0\nhello ---644 0 0 %[1]s/hello\ndir d--755 0 0\ndeep d--755 0 0\nfile ---644 0 0 %[1]s/dir/deep/file\n$\n$\n$\n", tree)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Loop makes a block device of a file and gives it as the layer of a mount of kind attach.
func Loop(t testing.TB, image string, readOnly bool) mount.Layer {
	t.Helper()
	flags := os.O_RDWR
	if readOnly {
		flags = os.O_RDONLY
	}
	file, err := os.OpenFile(image, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dev, f, err := loopdev.Attach(t.Context(), loopdev.Options{File: file, Name: "mounttest", ReadOnly: readOnly})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() {
		if err := loopdev.Detach(context.Background(), dev.Path); err != nil {
			t.Error(err)
		}
	})
	return mount.Layer{Role: mount.RoleDevice, ID: 100, Path: dev.Path, ReadOnly: readOnly}
}

// Command runs a program that must succeed.
func Command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
