//go:build lab

package nfs

import (
	"context"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// These run in a guest of test/lab against nfs-ganesha: test/lab/run.sh ./mount/nfs

func newDriver() mount.Driver { return labDriver() }

func labDriver() *Driver { return New(Config{Helper: helper.New(os.Getenv(helpertest.ShimVar))}) }

func TestMain(m *testing.M) { mounttest.Main(m, newDriver) }

// driver makes one that leaves no helper behind.
func driver(t *testing.T) *Driver {
	t.Helper()
	d := labDriver()
	t.Cleanup(func() {
		d.Close()
		await(t, "the end of all helpers", func() bool { return len(d.helper.Left()) == 0 })
	})
	return d
}

// await waits until something is so.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// export makes a directory on the server with mounttest.Files in it, and gives what mounts it by a version.
func export(t testing.TB, c *control.Client, host, version string, options ...string) (m *models.Mount, there string) {
	t.Helper()
	exported, there := c.NFS().Dir(t)
	for name, content := range mounttest.Files() {
		c.Put(t, path.Join(there, name), strings.NewReader(content))
	}
	if version == "3" {
		exported = there
	}
	return spec(host, exported, version, options...), there
}

// mounted mounts until the end of the test.
func mounted(t *testing.T, d *Driver, m *models.Mount) mount.Active {
	t.Helper()
	a := mounttest.Mounted(t, d, m)
	t.Cleanup(func() {
		if err := d.Unmount(context.Background(), a, true); err != nil && !gone(a.Target.Dir) {
			t.Errorf("unmount at the end: %v", err)
		}
	})
	return a
}

func info(t *testing.T, a mount.Active) *mountinfo.Info {
	t.Helper()
	i, err := at(a.Target.Dir)
	if err != nil || i == nil || uint64(i.ID) != a.MountID {
		t.Fatalf("mounted is %+v, %v; it should be %d", i, err, a.MountID)
	}
	return i
}

func wantFiles(t *testing.T, dir string) {
	t.Helper()
	for name, want := range mounttest.Files() {
		if got, err := os.ReadFile(path.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}

func wantError(t *testing.T, err error, kind fault.Kind, says ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%v (%s), want %s", err, fault.KindOf(err), kind)
		return
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v\ndoes not say %q", err, s)
		}
	}
}
