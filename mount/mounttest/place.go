package mounttest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Place makes a mountpoint for a test of one's own. When the test ends nothing may be mounted there.
func Place(t testing.TB) mount.Target {
	t.Helper()
	dir := t.TempDir()
	target := mount.Target{Dir: filepath.Join(dir, "m"), Scratch: filepath.Join(dir, "s")}
	if err := os.Mkdir(target.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { NoLeak(t, dir) })
	return target
}

// Mounted mounts spec as 1 at a place of its own.
func Mounted(t testing.TB, d mount.Driver, spec *models.Mount, below ...mount.Layer) mount.Active {
	t.Helper()
	a, err := d.Mount(t.Context(), 1, spec, below, Place(t))
	if err != nil {
		t.Fatalf("mount: %v (%s)", err, fault.HintOf(err))
	}
	return a
}
