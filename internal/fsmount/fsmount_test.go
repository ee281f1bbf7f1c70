package fsmount_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// place makes a mountpoint that is clean again at the end of the test, whatever became of it.
func place(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "m")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		infos, err := mountinfo.Below(dir)
		if err != nil {
			t.Error(err)
		}
		for range infos {
			_ = unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	})
	return dir
}

func tmpfs(t *testing.T, target string) {
	t.Helper()
	mnt, err := fsmount.Create(t.Context(), "tmpfs", []fsmount.Option{{Key: "size", Value: "1m"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mnt.Close()
	if err := fsmount.Move(t.Context(), mnt, target); err != nil {
		t.Fatal(err)
	}
}

func TestMountIsSeenOnlyAfterMove(t *testing.T) {
	dir := place(t)
	mnt, err := fsmount.Create(t.Context(), "tmpfs", []fsmount.Option{{Key: "mode", Value: "0751"}}, unix.MOUNT_ATTR_NOSUID)
	if err != nil {
		t.Fatal(err)
	}
	defer mnt.Close()
	if i, err := fsmount.At(dir); err != nil || i != nil {
		t.Fatalf("before Move there is %v, %v", i, err)
	}
	if err := fsmount.Move(t.Context(), mnt, dir); err != nil {
		t.Fatal(err)
	}
	i, err := fsmount.At(dir)
	if err != nil || i == nil || i.FSType != "tmpfs" || !strings.Contains(i.Options, "nosuid") {
		t.Fatalf("after Move there is %+v, %v", i, err)
	}
	if id, err := fsmount.ID(mnt); err != nil || id != uint64(i.ID) {
		t.Fatalf("ID gives %d, %v; mountinfo says %d", id, err, i.ID)
	}
	if err := fsmount.Move(t.Context(), mnt, dir); !fault.Is(err, fault.BadState) {
		t.Fatalf("a second mount at one place: %v", err)
	}
	mnt.Close()
	for range 2 {
		if err := fsmount.Unmount(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRefusedOptionsCarryTheKernelsWords(t *testing.T) {
	for _, c := range []struct {
		name, fsType string
		opt          fsmount.Option
		kind         fault.Kind
		words        string
	}{
		{"unknown file system", "nosuchfs", fsmount.Option{Key: "ro", Flag: true}, fault.Unsupported, "no file system nosuchfs"},
		{"unknown option", "tmpfs", fsmount.Option{Key: "colour", Value: "red"}, fault.Invalid, "Unknown parameter 'colour'"},
		{"bad value", "tmpfs", fsmount.Option{Key: "size", Value: "many"}, fault.Invalid, "Bad value for 'size'"},
		{"long value", "tmpfs", fsmount.Option{Key: "size", Value: strings.Repeat("1", 300)}, fault.Invalid, "longer than the 255 bytes"},
		{"no such device", "ext4", fsmount.Option{Key: "source", Value: "/dev/nosuchdevice"}, fault.NotFound, "/dev/nosuchdevice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mnt, err := fsmount.Create(t.Context(), c.fsType, []fsmount.Option{c.opt}, 0)
			if mnt != nil {
				mnt.Close()
			}
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
				t.Fatalf("got %s: %v", fault.KindOf(err), err)
			}
		})
	}
}

// loop makes a block device of content.
func loop(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	dev, f, err := loopdev.Attach(t.Context(), loopdev.Options{File: file, Name: "fsmount-test", ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() {
		if err := loopdev.Detach(context.Background(), dev.Path); err != nil {
			t.Error(err)
		}
	})
	return dev.Path
}

func TestWhatIsNoFileSystemIsCorrupt(t *testing.T) {
	random := make([]byte, 1<<20)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	gzip := append([]byte("\x1f\x8b\x08"), make([]byte, 1<<20-3)...)
	for _, fsType := range []string{"squashfs", "erofs", "ext4", "xfs", "btrfs"} {
		for _, c := range []struct {
			name    string
			content []byte
			words   string
		}{{"random", random, "holds no file system that is known"}, {"gzip", gzip, "holds a gzip file"}} {
			t.Run(fsType+" of "+c.name, func(t *testing.T) {
				dev := loop(t, c.content)
				mnt, err := fsmount.Create(t.Context(), fsType, []fsmount.Option{{Key: "source", Value: dev}, {Key: "ro", Flag: true}}, 0)
				if mnt != nil {
					mnt.Close()
				}
				if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.words) || fault.HintOf(err) == "" {
					t.Fatalf("got %s: %v (%s)", fault.KindOf(err), err, fault.HintOf(err))
				}
				t.Log(err)
			})
		}
	}
}

func TestUnmountBusyNamesTheHolder(t *testing.T) {
	dir := place(t)
	tmpfs(t, dir)
	f, err := os.Create(filepath.Join(dir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, unmount := range []func(context.Context, string) error{fsmount.Unmount, fsmount.UnmountTree, fsmount.CheckIdle} {
		if err := unmount(t.Context(), dir); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "/held") {
			t.Fatalf("got %s: %v", fault.KindOf(err), err)
		}
	}
	f.Close()
	for range 3 { // looking again and again must not unmount
		if err := fsmount.CheckIdle(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	if i, err := fsmount.At(dir); err != nil || i == nil {
		t.Fatalf("after CheckIdle there is %v, %v", i, err)
	}
	if err := fsmount.Unmount(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
}

func TestStackedMountsAllGo(t *testing.T) {
	dir := place(t)
	for range 3 {
		mnt, err := fsmount.Create(t.Context(), "tmpfs", nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.MoveMount(int(mnt.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			t.Fatal(err)
		}
		mnt.Close()
	}
	if err := fsmount.Unmount(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if infos, err := mountinfo.Below(dir); err != nil || len(infos) != 0 {
		t.Fatalf("left: %v, %v", infos, err)
	}
}

func TestUnmountTreeIsAllOrNothing(t *testing.T) {
	dir := place(t)
	tmpfs(t, dir)
	for _, sub := range []string{"a", "a/b", "c"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
		tmpfs(t, filepath.Join(dir, sub))
	}
	if err := os.WriteFile(filepath.Join(dir, "a/b/file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	held, err := os.Create(filepath.Join(dir, "a/held")) // its turn comes last but one
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := fsmount.UnmountTree(t.Context(), dir); !fault.Is(err, fault.Busy) {
		t.Fatalf("got %v", err)
	}
	if infos, err := mountinfo.Below(dir); err != nil || len(infos) != 4 {
		t.Fatalf("after the failure there are %d mounts, not 4: %v", len(infos), err)
	}
	if _, err := os.ReadFile(filepath.Join(dir, "a/b/file")); err != nil {
		t.Fatal(err)
	}
	held.Close()
	if err := fsmount.UnmountTree(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if infos, err := mountinfo.Below(dir); err != nil || len(infos) != 0 {
		t.Fatalf("left: %v, %v", infos, err)
	}
}

func TestCloneOfSharedMountIsOnItsOwnWhenPrivate(t *testing.T) {
	src, dst := place(t), place(t)
	tmpfs(t, src)
	if err := unix.Mount("", src, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	sub := filepath.Join(src, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	tmpfs(t, sub)
	f, err := os.OpenFile(src, unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mnt, err := fsmount.CloneTree(t.Context(), f, true)
	if err != nil {
		t.Fatal(err)
	}
	defer mnt.Close()
	f.Close()
	a := fsmount.Attr{Set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE, Recursive: true}
	if err := fsmount.SetAttr(t.Context(), mnt, a); err != nil {
		t.Fatal(err)
	}
	if err := fsmount.Move(t.Context(), mnt, dst); err != nil {
		t.Fatal(err)
	}
	mnt.Close()
	if err := os.WriteFile(filepath.Join(dst, "sub/x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Fatalf("write below a read-only copy: %v", err)
	}
	if err := fsmount.UnmountTree(t.Context(), dst); err != nil {
		t.Fatal(err)
	}
	if i, err := fsmount.At(sub); err != nil || i == nil {
		t.Fatalf("the original's mount went with the copy's: %v, %v", i, err)
	}
	if err := fsmount.UnmountTree(t.Context(), src); err != nil {
		t.Fatal(err)
	}
}

func TestIdentifyOfWhatIsShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(path, []byte("h"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := fsmount.Identify(path); err != nil || got != "" {
		t.Fatalf("got %q, %v", got, err)
	}
}
