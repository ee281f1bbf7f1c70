package erofs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
)

func mount(t *testing.T, image, options string) string {
	t.Helper()
	target := t.TempDir()
	if err := unix.Mount(image, target, "erofs", unix.MS_RDONLY, options); err != nil {
		t.Fatalf("mount %s (%s): %v", image, options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
	return target
}

// TestKernel mounts an image with a data device, and one without.
func TestKernel(t *testing.T) {
	s := erofstest.New()
	meta, metaPath, dataPath := s.Write(t)
	t.Run("device", func(t *testing.T) {
		s.Compare(t, mount(t, metaPath, "device="+dataPath))
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
		s.Compare(t, mount(t, path, ""))
	})
	t.Run("no data", func(t *testing.T) {
		empty := *s
		empty.Root, empty.Data = erofstest.Dir(erofs.Entry{Name: "hole", Node: s.File(1<<44, nil)}), nil
		_, metaPath, dataPath := empty.Write(t)
		empty.Compare(t, mount(t, metaPath, "device="+dataPath))
	})
	if len(meta) > 2<<20 {
		t.Errorf("the metadata has %d bytes", len(meta))
	}
}
