//go:build lab

package rbd_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/lab/control"
)

// TestReplacedUnderTheKernel holds what the package relies on: a node that has an image mapped read-only is known to nobody, and reads on when the image is
// renamed and another gets its name.
func TestReplacedUnderTheKernel(t *testing.T) {
	c := control.Dial(t)
	ceph := c.Ceph()
	first, second := bytes.Repeat([]byte("first..."), 1<<20), bytes.Repeat([]byte("second.."), 1<<20)
	ceph.Import(t, "rbd/replaced-old", bytes.NewReader(first), nil, "v1")
	ceph.Run(t, "rbd", "rename", "rbd/replaced-old", "rbd/replaced")
	old := mapped(t, ceph, "replaced v1")
	if got := ceph.Watchers(t, "rbd/replaced"); len(got) != 0 {
		t.Errorf("a read-only mapping is announced, by %v: then windlass-ceph could refuse to replace what is mapped", got)
	}
	ceph.Run(t, "rbd", "rename", "rbd/replaced", "rbd/replaced-old")
	ceph.Import(t, "rbd/replaced", bytes.NewReader(second), nil, "v1")
	if got := read(t, old); !bytes.Equal(got, first) {
		t.Errorf("who had the renamed image mapped reads %.20q", got)
	}
	if got := read(t, mapped(t, ceph, "replaced v1")); !bytes.Equal(got, second) {
		t.Errorf("who maps the name now reads %.20q", got)
	}
}

// mapped maps an image of the pool rbd read-only and gives its device.
func mapped(t *testing.T, ceph control.Ceph, image string) string {
	t.Helper()
	before := devices(t)
	line := fmt.Sprintf("%s name=admin,secret=%s,ro,noshare,mount_timeout=60 rbd %s", control.Monitor, ceph.Key(t, "client.admin"), image)
	if err := os.WriteFile("/sys/bus/rbd/add_single_major", []byte(line), 0o200); err != nil {
		t.Fatal(err)
	}
	for id := range devices(t) {
		if before[id] {
			continue
		}
		t.Cleanup(func() {
			if err := os.WriteFile("/sys/bus/rbd/remove_single_major", []byte(id), 0o200); err != nil {
				t.Error(err)
			}
		})
		return "/dev/rbd" + id
	}
	t.Fatalf("%s is mapped and there is no new device", image)
	return ""
}

func devices(t *testing.T) map[string]bool {
	t.Helper()
	found, err := filepath.Glob("/sys/bus/rbd/devices/*")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, f := range found {
		ids[filepath.Base(f)] = true
	}
	return ids
}

// read reads a device whole, not from the page cache.
func read(t *testing.T, device string) []byte {
	t.Helper()
	f, err := os.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	if _, err := data.ReadFrom(f); err != nil {
		t.Fatal(err)
	}
	return data.Bytes()
}
