package loop_test

import (
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
	"github.com/windlass-hpc/windlass/attach/loop"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

var suite = attachtest.Suite{
	New:     func(instance string) attach.Driver { return loop.New(instance) },
	Spec:    func(_ testing.TB, image string) *models.Attach { return spec(image, nil) },
	Hostile: hostile,
}

func TestMain(m *testing.M)        { attachtest.Main(m, suite) }
func TestDriver(t *testing.T)      { attachtest.Run(t, suite) }
func TestPartitions(t *testing.T)  { attachtest.Run(t, inPartition) }
func BenchmarkDriver(b *testing.B) { attachtest.Benchmark(b, suite) }

// inPartition runs the suite on a device that is a partition.
var inPartition = attachtest.Suite{
	New: suite.New,
	Spec: func(t testing.TB, image string) *models.Attach {
		content, err := os.ReadFile(image)
		must(t, err)
		disk := file(t, filepath.Dir(image), "disk", 4<<20)
		sfdisk(t, disk, "label: dos\n2: start=2048, size=%d\n", len(content)/512)
		f, err := os.OpenFile(disk, os.O_WRONLY, 0)
		must(t, err)
		defer f.Close()
		_, err = f.WriteAt(content, 2048*512)
		must(t, err)
		return spec(disk, func(l *models.AttachLoopback) { l.Partition = ptr(int64(2)) })
	},
	Hostile: func(testing.TB) []attachtest.Hostile { return nil },
}

// sfdisk writes a partition table to the image.
func sfdisk(t testing.TB, image, script string, args ...any) {
	t.Helper()
	cmd := exec.Command("sfdisk", "--quiet", image)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(script, args...))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
}

// spec is one of the file at path on the node, changed by change.
func spec(path string, change func(*models.AttachLoopback)) *models.Attach {
	l := &models.AttachLoopback{Path: &path, Base: models.BaseRoot.Pointer()}
	if change != nil {
		change(l)
	}
	return &models.Attach{Kind: models.AttachKindLoopback, Loopback: l}
}

// inMount is a spec of a path below a mount.
func inMount(path string) *models.Attach {
	return spec(path, func(l *models.AttachLoopback) { l.Base, l.Mount = models.BaseMount.Pointer(), &models.Mount{ID: 7} })
}

func ptr[T any](v T) *T { return &v }

// file makes one of so many bytes and gives its path.
func file(t testing.TB, dir, name string, size int) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hostile(t testing.TB) []attachtest.Hostile {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	image := file(t, dir, "image", 1<<20)
	file(t, dir, "empty", 0)
	file(t, dir, "tiny", 100)
	must(t, unix.Mkfifo(at("fifo"), 0o600))
	must(t, os.Symlink("fifo", at("link to fifo")))
	must(t, os.Symlink("loop", at("loop")))
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
	must(t, unix.Mknod(at("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))))
	must(t, os.Mkdir(at("confined"), 0o700))
	must(t, os.Symlink(image, at("confined/absolute link out")))
	must(t, os.Symlink("../image", at("confined/relative link out")))
	confined := attach.Base{Dir: at("confined"), Confined: true}
	loopback := func(change func(*models.AttachLoopback)) *models.Attach { return spec(image, change) }
	return []attachtest.Hostile{
		{What: "nothing", Kind: fault.Invalid, Says: "loopback is missing"},
		{What: "no part", Spec: &models.Attach{}, Kind: fault.Invalid, Says: "loopback is missing"},
		{What: "no path", Spec: loopback(func(l *models.AttachLoopback) { l.Path = nil }), Kind: fault.Invalid, Says: "loopback.path is missing"},
		{What: "no base", Spec: loopback(func(l *models.AttachLoopback) { l.Base = nil }), Kind: fault.Invalid, Says: "loopback.base is missing"},
		{What: "unknown base", Spec: loopback(func(l *models.AttachLoopback) { l.Base = ptr(models.Base("moon")) }), Kind: fault.Invalid, Says: `"moon"`},
		{What: "base mount without a mount", Spec: loopback(func(l *models.AttachLoopback) { l.Base = models.BaseMount.Pointer() }), Kind: fault.Invalid, Says: "loopback.mount is missing"},
		{What: "base root with a mount", Spec: loopback(func(l *models.AttachLoopback) { l.Mount = &models.Mount{} }), Kind: fault.Invalid, Says: "base is root"},
		{What: "relative", Spec: spec("image", nil), Kind: fault.Invalid, Says: "not an absolute path"},
		{What: "dots", Spec: spec(dir+"/confined/../image", nil), Kind: fault.Invalid, Says: `".."`},
		{What: "NUL", Spec: spec(image+"\x00", nil), Kind: fault.Invalid, Says: "NUL"},
		{What: "missing", Spec: spec(at("missing"), nil), Kind: fault.NotFound, Says: "there is no file"},
		{What: "name too long", Spec: spec(at(strings.Repeat("n", 300)), nil), Kind: fault.Invalid, Says: "name too long"},
		{What: "below a file", Spec: spec(image+"/x", nil), Kind: fault.Invalid, Says: "not a directory"},
		{What: "link to itself", Spec: spec(at("loop"), nil), Kind: fault.Invalid, Says: "too many levels of symbolic links"},
		{What: "directory", Spec: spec(dir, nil), Kind: fault.Invalid, Says: "is a directory"},
		{What: "fifo", Spec: spec(at("fifo"), nil), Kind: fault.Invalid, Says: "is a fifo"},
		{What: "link to a fifo", Spec: spec(at("link to fifo"), nil), Kind: fault.Invalid, Says: "is a fifo"},
		{What: "character device", Spec: spec(at("null"), nil), Kind: fault.Invalid, Says: "is a character device"},
		{What: "block device", Spec: spec(at("disk"), nil), Kind: fault.Invalid, Says: "is a block device"},
		{What: "empty file", Spec: spec(at("empty"), nil), Kind: fault.Invalid, Says: "has 0 bytes"},
		{What: "less than a sector", Spec: spec(at("tiny"), nil), Kind: fault.Invalid, Says: "has 100 bytes"},
		{What: "offset at the end", Spec: loopback(func(l *models.AttachLoopback) { l.Offset = ptr(int64(1 << 20)) }), Kind: fault.Invalid, Says: "loopback.offset"},
		{What: "giant offset", Spec: loopback(func(l *models.AttachLoopback) { l.Offset = ptr(int64(math.MaxInt64)) }), Kind: fault.Invalid, Says: "loopback.offset"},
		{What: "negative offset", Spec: loopback(func(l *models.AttachLoopback) { l.Offset = ptr(int64(-1)) }), Kind: fault.Invalid, Says: "loopback.offset"},
		{What: "size beyond the end", Spec: loopback(func(l *models.AttachLoopback) { l.Offset, l.SizeLimit = ptr(int64(512)), ptr(int64(1<<20)) }), Kind: fault.Invalid, Says: "loopback.size_limit"},
		{What: "giant size and offset", Spec: loopback(func(l *models.AttachLoopback) { l.Offset, l.SizeLimit = ptr(int64(512)), ptr(int64(math.MaxInt64)) }), Kind: fault.Invalid, Says: "loopback.size_limit"},
		{What: "size less than a sector", Spec: loopback(func(l *models.AttachLoopback) { l.SizeLimit = ptr(int64(10)) }), Kind: fault.Invalid, Says: "loopback.size_limit"},
		{What: "partition of an image without any", Spec: loopback(func(l *models.AttachLoopback) { l.Partition = ptr(int64(1)) }), Kind: fault.Invalid, Says: "has no partition 1"},
		{What: "giant partition", Spec: loopback(func(l *models.AttachLoopback) { l.Partition = ptr(int64(math.MaxInt64)) }), Kind: fault.Invalid, Says: "loopback.partition"},
		{What: "absolute link out of the mount", Spec: inMount("absolute link out"), Base: confined, Kind: fault.NotFound, Says: "on the mount"},
		{What: "relative link out of the mount", Spec: inMount("/relative link out"), Base: confined, Kind: fault.NotFound, Says: "on the mount"},
		{What: "dots out of the mount", Spec: inMount("../image"), Base: confined, Kind: fault.Invalid, Says: `".."`},
		{What: "direct I/O at an odd offset", Spec: loopback(func(l *models.AttachLoopback) { l.DirectIo, l.Offset = true, ptr(int64(100)) }), Kind: fault.Unsupported, Says: "direct I/O"},
	}
}
