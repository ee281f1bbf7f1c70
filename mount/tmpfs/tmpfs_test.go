package tmpfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/mount/tmpfs"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func newDriver() mount.Driver { return tmpfs.New() }

func TestMain(m *testing.M) { mounttest.Main(m, newDriver) }

func spec(part *models.MountTmpfs) *models.Mount {
	return &models.Mount{Kind: models.MountKindTmpfs, Tmpfs: part}
}

func TestDriver(t *testing.T) {
	bad := "rwx"
	mounttest.Run(t, mounttest.Suite{
		New: newDriver,
		Make: func(testing.TB) mounttest.Case {
			return mounttest.Case{Spec: spec(&models.MountTmpfs{Size: 1 << 20}), Writable: true}
		},
		Hostile: func(testing.TB) []mounttest.Hostile {
			return []mounttest.Hostile{
				{What: "nothing", Spec: nil, Kind: fault.Invalid, Says: "tmpfs is missing"},
				{What: "no part", Spec: &models.Mount{}, Kind: fault.Invalid, Says: "tmpfs is missing"},
				{What: "bad mode", Spec: spec(&models.MountTmpfs{Mode: &bad}), Kind: fault.Invalid, Says: "tmpfs.mode"},
				{What: "negative size", Spec: spec(&models.MountTmpfs{Size: -1}), Kind: fault.Invalid, Says: "tmpfs.size"},
				{What: "one inode", Spec: spec(&models.MountTmpfs{Inodes: 1}), Kind: fault.Invalid, Says: "tmpfs.inodes"},
			}
		},
	})
}

func TestLimitsHold(t *testing.T) {
	mode := "1777"
	d := newDriver()
	a := mounttest.Mounted(t, d, spec(&models.MountTmpfs{Size: 1 << 20, Inodes: 16, Mode: &mode}))
	if info, err := os.Stat(a.Target.Dir); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(a.Target.Dir, "big"), make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("2 MiB into 1 MiB: %v", err)
	}
	var last error
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"} {
		last = os.WriteFile(filepath.Join(a.Target.Dir, name), nil, 0o600)
	}
	if !errors.Is(last, unix.ENOSPC) {
		t.Errorf("the 17th file: %v", last)
	}
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
}
