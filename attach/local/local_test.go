package local_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/attachtest"
	"github.com/windlass-hpc/windlass/attach/local"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/swagger/models"
)

var suite = attachtest.Suite{
	New:     func(string) attach.Driver { return local.New() },
	Spec:    func(t testing.TB, image string) *models.Attach { return spec(disk(t, image).Path, 0) },
	Passive: true,
	Hostile: hostile,
}

func TestMain(m *testing.M)        { attachtest.Main(m, suite) }
func TestDriver(t *testing.T)      { attachtest.Run(t, suite) }
func BenchmarkDriver(b *testing.B) { attachtest.Benchmark(b, suite) }

var root = attach.Base{Dir: "/"}

func spec(path string, partition int64) *models.Attach {
	return &models.Attach{Kind: models.AttachKindLocal, Local: &models.AttachLocal{Path: &path, Partition: &partition}}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// disk makes a block device of the file image, for the time of the test.
func disk(t testing.TB, image string) loopdev.Device {
	t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	name := fmt.Sprintf("local-test-%d", os.Getpid())
	dev, keep, err := loopdev.Attach(t.Context(), loopdev.Options{File: f, Name: name, PartScan: true})
	must(t, err)
	keep.Close()
	t.Cleanup(func() { remove(t, dev) })
	return dev
}

// remove takes a disk away, and only that: its number may be another's by now.
func remove(t testing.TB, dev loopdev.Device) {
	t.Helper()
	o := loopdev.DetachOptions{Name: dev.Name, Wait: loopdev.DefaultWait}
	if err := loopdev.Clear(context.Background(), dev.Path, o); err != nil {
		t.Error(err)
	}
}

// partitioned makes a disk with partitions 1 and 5.
func partitioned(t testing.TB) loopdev.Device {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(image, make([]byte, 4<<20), 0o600))
	cmd := exec.Command("sfdisk", "--quiet", image)
	cmd.Stdin = strings.NewReader("label: gpt\n1: start=2048, size=2048\n5: start=4096, size=2048\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	dev := disk(t, image)
	if _, err := os.Stat(dev.Path + "p5"); err != nil { // the kernel cannot read the table itself
		if out, err := exec.Command("partx", "--add", dev.Path).CombinedOutput(); err != nil {
			t.Fatalf("partx: %v: %s", err, out)
		}
	}
	return dev
}

func hostile(t testing.TB) []attachtest.Hostile {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(at("file"), nil, 0o600))
	must(t, unix.Mkfifo(at("fifo"), 0o600))
	must(t, os.Symlink("fifo", at("link to fifo")))
	must(t, os.Symlink("nothing", at("dangling")))
	must(t, os.Symlink("loop", at("loop")))
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(at("no device"), unix.S_IFBLK|0o600, int(unix.Mkdev(240, 99))))
	dev := partitioned(t)
	return []attachtest.Hostile{
		{What: "nothing", Kind: fault.Invalid, Says: "local is missing"},
		{What: "no part", Spec: &models.Attach{}, Kind: fault.Invalid, Says: "local is missing"},
		{What: "no path", Spec: &models.Attach{Local: &models.AttachLocal{}}, Kind: fault.Invalid, Says: "local.path is missing"},
		{What: "relative", Spec: spec("dev/sda", 0), Kind: fault.Invalid, Says: "not an absolute path"},
		{What: "dots", Spec: spec("/dev/../dev/sda", 0), Kind: fault.Invalid, Says: `".."`},
		{What: "NUL", Spec: spec("/dev/sda\x00", 0), Kind: fault.Invalid, Says: "NUL"},
		{What: "missing", Spec: spec(at("missing"), 0), Kind: fault.NotFound, Says: "there is no"},
		{What: "dangling link", Spec: spec(at("dangling"), 0), Kind: fault.NotFound, Says: "there is no"},
		{What: "link to itself", Spec: spec(at("loop"), 0), Kind: fault.Invalid, Says: "too many levels of symbolic links"},
		{What: "name too long", Spec: spec(at(strings.Repeat("n", 300)), 0), Kind: fault.Invalid, Says: "name too long"},
		{What: "file", Spec: spec(at("file"), 0), Kind: fault.Invalid, Says: "is a file, not a block device"},
		{What: "directory", Spec: spec(dir, 0), Kind: fault.Invalid, Says: "is a directory"},
		{What: "fifo", Spec: spec(at("fifo"), 0), Kind: fault.Invalid, Says: "is a fifo"},
		{What: "link to a fifo", Spec: spec(at("link to fifo"), 0), Kind: fault.Invalid, Says: "is a fifo"},
		{What: "character device", Spec: spec(at("null"), 0), Kind: fault.Invalid, Says: "is a character device"},
		{What: "node without a device", Spec: spec(at("no device"), 0), Kind: fault.NotFound, Says: "no block device 240:99"},
		{What: "negative partition", Spec: spec(dev.Path, -1), Kind: fault.Invalid, Says: "local.partition"},
		{What: "giant partition", Spec: spec(dev.Path, math.MaxInt64), Kind: fault.Invalid, Says: "local.partition"},
		{What: "unknown partition", Spec: spec(dev.Path, 3), Kind: fault.Invalid, Says: "has no partition 3, only 1, 5"},
		{What: "partition of a partition", Spec: spec(dev.Path+"p1", 1), Kind: fault.Invalid, Says: "is itself a partition"},
	}
}

func TestLinksLeadToTheDevice(t *testing.T) {
	dev := partitioned(t)
	dir := t.TempDir()
	must(t, os.Symlink(dev.Path, dir+"/by-label"))
	must(t, unix.Mknod(dir+"/node", unix.S_IFBLK|0o600, int(dev.DevNum)))
	for _, name := range []string{"by-label", "node"} {
		got, err := local.New().Attach(t.Context(), 1, spec(filepath.Join(dir, name), 0), root)
		must(t, err)
		if got.Path != dev.Path || got.DevNum != dev.DevNum || got.Parent != "" {
			t.Errorf("%s leads to %+v, want %s", name, got, dev.Path)
		}
	}
}

func TestPartition(t *testing.T) {
	dev := partitioned(t)
	got, err := local.New().Attach(t.Context(), 1, spec(dev.Path, 5), root)
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(dev.Path+"p5", &st))
	if got.Path != dev.Path+"p5" || got.Parent != dev.Path || got.DevNum != uint64(st.Rdev) || got.ReadOnly {
		t.Errorf("attached %+v", got)
	}
	// The partition itself named: the same device, of the same disk.
	named, err := local.New().Attach(t.Context(), 1, spec(dev.Path+"p5", 0), root)
	must(t, err)
	if named.Path != got.Path || named.DevNum != got.DevNum || named.Number != got.Number || got.Number == 0 {
		t.Errorf("attached %+v by its own name, %+v by its number", named, got)
	}
}

func TestReadOnlyIsTheKernelsWord(t *testing.T) {
	dev := partitioned(t)
	if out, err := exec.Command("blockdev", "--setro", dev.Path).CombinedOutput(); err != nil {
		t.Fatalf("blockdev: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("blockdev", "--setrw", dev.Path).Run() })
	for partition := range int64(2) {
		got, err := local.New().Attach(t.Context(), 1, spec(dev.Path, partition), root)
		must(t, err)
		if !got.ReadOnly {
			t.Errorf("%s is not read-only", got.Path)
		}
	}
}

func TestAnotherDiskUnderTheSameNameShows(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(image, make([]byte, 1<<20), 0o600))
	link := filepath.Join(t.TempDir(), "by-id")
	one, two := disk(t, image), disk(t, image)
	must(t, os.Symlink(one.Path, link))
	d, s := local.New(), spec(link, 0)
	before, err := d.Attach(t.Context(), 1, s, root)
	must(t, err)
	must(t, os.Remove(link))
	if _, state, err := d.Probe(t.Context(), 1, s); err != nil || state != attach.Gone {
		t.Errorf("probe without the link: %d, %v", state, err)
	}
	must(t, os.Symlink(two.Path, link))
	after, state, err := d.Probe(t.Context(), 1, s)
	if err != nil || state != attach.Ready || after.DevNum == before.DevNum || after.Number == before.Number {
		t.Errorf("probe: %+v, %d, %v; before it was %+v", after, state, err, before)
	}
}

// TestTheSameNumberOfAnotherDiskShows has a disk go and another come with its name and number.
func TestTheSameNumberOfAnotherDiskShows(t *testing.T) {
	image := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(image, make([]byte, 1<<20), 0o600))
	dev := disk(t, image)
	d, s := local.New(), spec(dev.Path, 0)
	before, err := d.Attach(t.Context(), 1, s, root)
	must(t, err)
	remove(t, dev)
	// The number is free and among the lowest, but other tests of this machine take numbers too.
	for next := disk(t, image); next.Path != dev.Path; next = disk(t, image) {
	}
	after, _, err := d.Probe(t.Context(), 1, s)
	must(t, err)
	if after.Path != before.Path || after.DevNum != before.DevNum || after.Number == before.Number {
		t.Errorf("probe: %+v; before it was %+v", after, before)
	}
}

func TestARemovedDeviceIsGone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node")
	must(t, unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(240, 98))))
	if dev, state, err := local.New().Probe(t.Context(), 1, spec(path, 0)); err != nil || state != attach.Gone {
		t.Errorf("probe: %s", fmt.Sprint(dev, state, err))
	}
}
