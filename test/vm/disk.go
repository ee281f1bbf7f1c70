package vm

import (
	"os"
	"path/filepath"
	"testing"
)

// rootDisk gives an image of the guest's root file system, an ext4 with Debian as a node's disk is. It is kept; guests write to a layer of
// their own above it.
func rootDisk(t testing.TB) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "root")
	must(t, nil, "truncate", "-s", "3G", image)
	// Under the lock of test/rootfs.sh, which may be making the tree anew.
	must(t, nil, "flock", "--shared", filepath.Join(Cache(), "lock"), "mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", "-O", "^has_journal",
		"-d", filepath.Join(Cache(), "debian-rootfs"), image)
	if _, err := os.Stat(image); err != nil {
		t.Fatal(err)
	}
	return image
}
