package vm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// diskRecipe changes when the image must be made anew though Debian has not changed.
const diskRecipe = "1 "

// rootDisk gives an image of the guest's root file system, an ext4 with Debian as a node's disk is. It is made once and kept; guests write to
// a layer of their own above it, which goes with them.
func rootDisk(t testing.TB) string {
	t.Helper()
	image := filepath.Join(Cache(), "root.ext4")
	if err := makeDisk(t, image); err != nil {
		t.Fatalf("make %s: %v", image, err)
	}
	return image
}

func makeDisk(t testing.TB, image string) error {
	lock, err := os.OpenFile(image+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	// Also under the lock of test/rootfs.sh, which may be making the tree anew.
	tree, err := os.Open(filepath.Join(Cache(), "lock"))
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := errors.Join(unix.Flock(int(lock.Fd()), unix.LOCK_EX), unix.Flock(int(tree.Fd()), unix.LOCK_SH)); err != nil {
		return err
	}
	of, err := os.ReadFile(filepath.Join(Cache(), "debian-rootfs.complete"))
	if err != nil {
		return err
	}
	recipe := diskRecipe + string(of)
	switch had, err := os.ReadFile(image + ".complete"); {
	case err == nil && string(had) == recipe:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	// Whole, or not there: a guest that runs keeps the one that it has opened.
	tmp := image + ".tmp"
	_ = os.Remove(tmp)
	must(t, nil, "truncate", "-s", "3G", tmp)
	must(t, nil, "mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", "-O", "^has_journal", "-d", filepath.Join(Cache(), "debian-rootfs"), tmp)
	if err := os.Rename(tmp, image); err != nil {
		return err
	}
	return os.WriteFile(image+".complete", []byte(recipe), 0o600)
}
