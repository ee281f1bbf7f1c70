package blockdev_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/blockdev"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

// disk makes a device of 4 MiB and gives its path and number.
func disk(t *testing.T) (string, uint64) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dev := run(t, "losetup", "--find", "--show", "--partscan", "--read-only", image)
	t.Cleanup(func() { run(t, "losetup", "--detach", dev) })
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil {
		t.Fatal(err)
	}
	return dev, uint64(st.Rdev)
}

func TestDeviceAndItsPartitions(t *testing.T) {
	dev, num := disk(t)
	whole, err := blockdev.Get(num)
	if err != nil || whole.Path() != dev || whole.DevNum != num || !whole.ReadOnly || whole.Partition != 0 || whole.Sequence == 0 {
		t.Errorf("%s is %+v, %v", dev, whole, err)
	}
	err = blockdev.NoPartition("the disk", num, 1)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "no partition table") {
		t.Errorf("without partitions: %v", err)
	}
	for _, n := range []string{"12", "2"} {
		run(t, "addpart", dev, n, "2"+n, "2")
	}
	all, err := blockdev.Partitions(num)
	if err != nil || len(all) != 2 || all[0].Partition != 2 || all[1].Partition != 12 || all[1].Path() != dev+"p12" || all[1].Sequence != whole.Sequence {
		t.Errorf("partitions %+v, %v", all, err)
	}
	if part, ok, err := blockdev.Partition(num, 12); err != nil || !ok || part != all[1] {
		t.Errorf("partition 12 is %+v, %v, %v", part, ok, err)
	}
	if _, ok, err := blockdev.Partition(num, 1); err != nil || ok {
		t.Errorf("partition 1: %v, %v", ok, err)
	}
	if err := blockdev.NoPartition("the disk", num, 1); !strings.Contains(err.Error(), "the disk has no partition 1, only 2, 12") {
		t.Errorf("with partitions: %v", err)
	}
}

func TestNoDevice(t *testing.T) {
	if _, err := blockdev.Get(unix.Mkdev(240, 97)); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "240:97") {
		t.Errorf("a number without a device: %v", err)
	}
}
