package device_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/device"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func newDriver() mount.Driver { return device.New() }

func TestMain(m *testing.M) { mounttest.Main(m, newDriver) }

func fsTypes() []string { return []string{"squashfs", "erofs", "ext4", "xfs", "btrfs"} }

func spec(fsType string, options ...string) *models.Mount {
	part := &models.MountAttach{Attach: &models.Attach{ID: 100}, FsType: &fsType, MountOptions: options}
	return &models.Mount{Kind: models.MountKindAttach, Attach: part}
}

func TestDriver(t *testing.T) {
	for _, fsType := range fsTypes() {
		t.Run(fsType, func(t *testing.T) {
			writable := fsType != "squashfs" && fsType != "erofs"
			mounttest.Run(t, mounttest.Suite{New: newDriver, Make: func(t testing.TB) mounttest.Case {
				return mounttest.Case{
					Spec: spec(fsType), Below: []mount.Layer{mounttest.Loop(t, mounttest.Image(t, fsType), !writable)},
					Files: mounttest.Files(), Writable: writable,
				}
			}})
		})
	}
	t.Run("ext4 read-only", func(t *testing.T) {
		mounttest.Run(t, mounttest.Suite{New: newDriver, Hostile: hostile, Make: func(t testing.TB) mounttest.Case {
			return mounttest.Case{
				Spec: spec("ext4", "ro,noatime", "nodev"), Below: []mount.Layer{mounttest.Loop(t, mounttest.Image(t, "ext4"), true)},
				Files: mounttest.Files(),
			}
		}})
	})
}

// loop makes a read-only device of bytes.
func loop(t testing.TB, content []byte) []mount.Layer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bytes")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return []mount.Layer{mounttest.Loop(t, path, true)}
}

func hostile(t testing.TB) []mounttest.Hostile {
	random := make([]byte, 1<<20)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	noise, squashfs := loop(t, random), []mount.Layer{mounttest.Loop(t, mounttest.Image(t, "squashfs"), true)}
	ext4 := []mount.Layer{mounttest.Loop(t, mounttest.Image(t, "ext4"), true)}
	gone := []mount.Layer{{Role: mount.RoleDevice, Path: "/dev/windlass-no-such-device"}}
	file := []mount.Layer{{Role: mount.RoleDevice, Path: mounttest.Image(t, "ext4")}}
	all := []mounttest.Hostile{
		{What: "nothing", Spec: nil, Kind: fault.Invalid, Says: "attach is missing"},
		{What: "no part", Spec: &models.Mount{}, Kind: fault.Invalid, Says: "attach is missing"},
		{What: "no attachment", Spec: &models.Mount{Attach: &models.MountAttach{}}, Kind: fault.Invalid, Says: "attach.attach is missing"},
		{What: "no such file system", Spec: spec("vfat"), Below: noise, Kind: fault.Invalid, Says: `fs_type is "vfat"`},
		{What: "virtual file system", Spec: spec("proc"), Below: noise, Kind: fault.Invalid, Says: `fs_type is "proc"`},
		{What: "no device", Spec: spec("ext4"), Kind: fault.Invalid, Says: "no device"},
		{What: "gone device, squashfs", Spec: spec("squashfs"), Below: gone, Kind: fault.NotFound, Says: "no-such-device"},
		{What: "gone device, ext4", Spec: spec("ext4"), Below: gone, Kind: fault.NotFound, Says: "no-such-device"},
		{What: "a file for a device", Spec: spec("ext4"), Below: file, Kind: fault.Invalid, Says: "block device required"},
		{What: "read-only device", Spec: spec("ext4"), Below: ext4, Kind: fault.Invalid, Says: "the device is read-only"},
		{What: "another file system", Spec: spec("erofs"), Below: squashfs, Kind: fault.Corrupt, Says: "holds squashfs, not erofs"},
		{What: "unknown option", Spec: spec("ext4", "ro", "colour=red"), Below: ext4, Kind: fault.Invalid, Says: "Unknown parameter 'colour'"},
		{What: "bad value", Spec: spec("ext4", "ro", "commit=soon"), Below: ext4, Kind: fault.Invalid, Says: "Bad value for 'commit'"},
		{What: "options that do not go together", Spec: spec("ext4", "ro", "data=journal", "delalloc"), Below: ext4, Kind: fault.Invalid, Says: "can't mount with both data=journal and delalloc"},
		{What: "empty option", Spec: spec("ext4", ""), Below: ext4, Kind: fault.Invalid, Says: "is no option"},
		{What: "long option", Spec: spec("ext4", "data="+strings.Repeat("x", 300)), Below: ext4, Kind: fault.Invalid, Says: "the kernel takes 255"},
		{What: "NUL", Spec: spec("ext4", "da\x00ta"), Below: ext4, Kind: fault.Invalid, Says: "is no option"},
	}
	for _, fsType := range fsTypes() {
		all = append(all, mounttest.Hostile{
			What: "random bytes as " + fsType, Spec: spec(fsType, "ro"), Below: noise, Kind: fault.Corrupt, Says: "holds no file system that is known",
		}, mounttest.Hostile{
			What: "truncated " + fsType, Spec: spec(fsType, "ro"), Below: truncated(t, fsType), Kind: fault.Corrupt, Says: fsType,
		})
	}
	for _, option := range []string{
		"loop", "source=/dev/sda", "device=/dev/sda", "logdev=/dev/sda", "rtdev=/dev/sda", "journal_path=/dev/sda", "journal_dev=8", "remount",
		"bind", "rshared", "user", "_netdev", "noauto", "x-systemd.automount", "X-mount.mkdir", "errors=panic", "ro,errors=panic", "helper=sh",
	} {
		all = append(all, mounttest.Hostile{What: "option " + option, Spec: spec("ext4", option), Below: ext4, Kind: fault.Invalid, Says: "attach.mount_options"})
	}
	return all
}

// truncated is the first half of an image.
func truncated(t testing.TB, fsType string) []mount.Layer {
	t.Helper()
	noise := make([]byte, 1<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	tree := mounttest.Tree(t)
	mounttest.Write(t, tree, map[string]string{"noise": string(noise)})
	image := mounttest.ImageOf(t, fsType, tree)
	info, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, info.Size()/2/512*512); err != nil {
		t.Fatal(err)
	}
	return []mount.Layer{mounttest.Loop(t, image, true)}
}

// mounted mounts and gives what the kernel says of it.
func mounted(t *testing.T, spec *models.Mount, below ...mount.Layer) (options, own string) {
	t.Helper()
	d := newDriver()
	a := mounttest.Mounted(t, d, spec, below...)
	i, err := fsmount.At(a.Target.Dir)
	if err != nil || i == nil {
		t.Fatalf("mountinfo: %v, %v", i, err)
	}
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Fatal(err)
	}
	return "," + i.Options + ",", "," + i.VFSOptions + ","
}

func TestOptionsReachTheKernel(t *testing.T) {
	dev := mounttest.Loop(t, mounttest.Image(t, "ext4"), false)
	options, own := mounted(t, spec("ext4", "nosuid,nodev", "noexec", "noatime", `data="writeback"`, "sync", "commit=17"), dev)
	for _, want := range []string{"rw", "nosuid", "nodev", "noexec", "noatime"} {
		if !strings.Contains(options, ","+want+",") {
			t.Errorf("%s is not among %s", want, options)
		}
	}
	for _, want := range []string{"sync", "commit=17", "data=writeback"} {
		if !strings.Contains(own, ","+want+",") {
			t.Errorf("%s is not among %s", want, own)
		}
	}
	options, _ = mounted(t, spec("ext4", "nosuid,noatime,ro", "suid", "strictatime", "rw", "defaults"), dev)
	for _, not := range []string{"nosuid", "noatime", "relatime", "ro"} {
		if strings.Contains(options, ","+not+",") {
			t.Errorf("%s is among %s although a later option says otherwise", not, options)
		}
	}
}

func TestAnImageCannotAskForAPanic(t *testing.T) {
	image := mounttest.Image(t, "ext4")
	mounttest.Command(t, "tune2fs", "-e", "panic", image)
	if _, own := mounted(t, spec("ext4"), mounttest.Loop(t, image, false)); !strings.Contains(own, ",errors=remount-ro,") {
		t.Errorf("the kernel has %s", own)
	}
}

func TestCopiesOfOneImageCanAllBeMounted(t *testing.T) {
	for _, fsType := range []string{"xfs", "ext4"} {
		t.Run(fsType, func(t *testing.T) {
			image := mounttest.Image(t, fsType)
			one, two := mounttest.Loop(t, image, true), mounttest.Loop(t, image, true)
			d := newDriver()
			a := mounttest.Mounted(t, d, spec(fsType, "ro"), one)
			mounted(t, spec(fsType, "ro"), two)
			if err := d.Unmount(t.Context(), a, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDirtyJournalOnAReadOnlyDevice takes a copy of an image while it is mounted and written.
func TestDirtyJournalOnAReadOnlyDevice(t *testing.T) {
	image := mounttest.Image(t, "ext4")
	mounttest.Command(t, "debugfs", "-w", "-R", "feature needs_recovery", image)
	dev := mounttest.Loop(t, image, true)
	_, err := newDriver().Mount(t.Context(), 1, spec("ext4", "ro"), []mount.Layer{dev}, mounttest.Place(t))
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.HintOf(err), "noload") {
		t.Errorf("got %v (%s): %s", err, fault.KindOf(err), fault.HintOf(err))
	}
	mounted(t, spec("ext4", "ro", "noload"), dev)
}
