package devices

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/kmod"
)

// ownMounts moves the test's thread, which ends with the test, into a mount namespace of its own, with a file system on dir in which device
// nodes work.
func ownMounts(t *testing.T, dir string) {
	t.Helper()
	runtime.LockOSThread() // and never unlocked
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("dev", dir, "tmpfs", 0, "mode=755")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // the same thread
}

func TestNodesOpenTheirDriver(t *testing.T) {
	dev := t.TempDir()
	ownMounts(t, dev)
	list := []kmod.Node{{Name: "fuse", Major: 1, Minor: 5}, {Name: "net/tun", Major: 10, Minor: 200}, {Name: "loop-control", Major: 10, Minor: 237}, {Name: "b", Block: true, Major: 7, Minor: 99}}
	if err := unix.Mknod(dev+"/loop-control", unix.S_IFCHR|0o640, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	made, err := Nodes(t.Context(), dev, list)
	if err != nil || made != 3 {
		t.Fatalf("%d, %v", made, err)
	}
	for name, want := range map[string]struct {
		mode uint32
		dev  uint64
	}{"fuse": {unix.S_IFCHR | 0o666, unix.Mkdev(1, 5)}, "net/tun": {unix.S_IFCHR | 0o666, unix.Mkdev(10, 200)}, "loop-control": {unix.S_IFCHR | 0o640, unix.Mkdev(1, 3)},
		"b": {unix.S_IFBLK | 0o600, unix.Mkdev(7, 99)}} {
		var st unix.Stat_t
		if err := unix.Lstat(dev+"/"+name, &st); err != nil || st.Mode != want.mode || st.Rdev != want.dev {
			t.Errorf("%s: mode %o, device %x, %v", name, st.Mode, st.Rdev, err)
		}
	}
	if zero, err := os.Open(dev + "/fuse"); err != nil { // it is /dev/zero here
		t.Error(err)
	} else {
		var b [1]byte
		if n, err := zero.Read(b[:]); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		zero.Close()
	}
	if made, err := Nodes(t.Context(), dev, list); err != nil || made != 0 {
		t.Errorf("the second time: %d, %v", made, err)
	}
}

func TestANodeThatCannotBeMadeHoldsUpNoOther(t *testing.T) {
	dev := t.TempDir()
	ownMounts(t, dev)
	if err := os.WriteFile(dev+"/snd", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	made, err := Nodes(t.Context(), dev, []kmod.Node{{Name: "snd/seq", Major: 116, Minor: 1}, {Name: "fuse", Major: 10, Minor: 229}})
	if made != 1 || err == nil || !strings.Contains(err.Error(), "snd/seq") {
		t.Errorf("%d, %v", made, err)
	}
}
