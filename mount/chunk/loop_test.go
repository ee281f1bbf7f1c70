package chunk

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/loopdev"
)

// TestLoopOnSectorsOf4096 puts a file of a disk with large sectors behind a loop device: its own page cache is bypassed all the same.
func TestLoopOnSectorsOf4096(t *testing.T) {
	content := bytes.Repeat([]byte("windlass"), 8192)
	for _, sector := range []uint32{512, 4096} {
		path := filepath.Join(diskOf(t, sector), "file")
		if err := os.WriteFile(path, content, 0o400); err != nil {
			t.Fatal(err)
		}
		dev, f, err := attachLoop(t.Context(), path, "windlass-chunktest/1/meta")
		if err != nil {
			t.Fatal(err)
		}
		if !dev.ReadOnly || !dev.Autoclear || !dev.DirectIO {
			t.Errorf("sectors of %d: the device is %+v", sector, dev)
		}
		got := make([]byte, len(content))
		if n, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
			t.Errorf("sectors of %d: read %d bytes that are not what they should be, %v", sector, n, err)
		}
		f.Close()
	}
}

// diskOf mounts an empty ext4 on a disk with sectors of a size.
func diskOf(t *testing.T, sector uint32) string {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 8<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-b", "4096", image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dev, f, err := loopdev.Attach(t.Context(), loopdev.Options{File: file, Name: "windlass-chunktest/disk", Autoclear: true, BlockSize: sector})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // the mount holds it
	if err := unix.Mount(dev.Path, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}
