package erofs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/internal/loopdev"
)

func mount(t *testing.T, image, options string) string {
	t.Helper()
	target := t.TempDir()
	err := unix.Mount(image, target, "erofs", unix.MS_RDONLY, options)
	if errors.Is(err, unix.ENOTBLK) {
		t.Skip("this kernel mounts EROFS from block devices alone")
	}
	if err != nil {
		t.Fatalf("mount %s (%s): %v", image, options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
	return target
}

// loop makes a block device of a file.
func loop(t *testing.T, path string) string {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dev, f, err := loopdev.Attach(t.Context(), loopdev.Options{File: file, ReadOnly: true, Autoclear: true, Name: path[:min(len(path), loopdev.MaxName)]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // which ends it
	return dev.Path
}

// TestKernel mounts an image with a data device, and one without.
func TestKernel(t *testing.T) {
	s := erofstest.New()
	meta, metaPath, dataPath := s.Write(t)
	t.Run("device", func(t *testing.T) {
		s.Compare(t, mount(t, metaPath, "device="+dataPath))
	})
	t.Run("loop devices", func(t *testing.T) {
		s.Compare(t, mount(t, loop(t, metaPath), "device="+loop(t, dataPath)))
	})
	t.Run("same device", func(t *testing.T) {
		o := s.Options()
		o.SameDevice = true
		var b bytes.Buffer
		n, err := erofs.Write(&b, s.Root, o)
		if err != nil || n != int64(b.Len()) {
			t.Fatal(n, err)
		}
		b.Write(s.Data)
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Compare(t, mount(t, loop(t, path), ""))
	})
	t.Run("no data", func(t *testing.T) {
		empty := *s
		empty.Root, empty.Data = erofstest.Dir(erofs.Entry{Name: "hole", Node: s.File(1<<44, nil)}), nil
		_, metaPath, dataPath := empty.Write(t)
		empty.Compare(t, mount(t, loop(t, metaPath), "device="+loop(t, dataPath)))
	})
	if len(meta) > 2<<20 {
		t.Errorf("the metadata has %d bytes", len(meta))
	}
}
