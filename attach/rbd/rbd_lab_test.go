//go:build lab

package rbd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/attachtest"
	"github.com/windlass-hpc/windlass/attach/rbd"
	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

var suite = attachtest.Suite{
	New:     newDriver,
	Spec:    func(t testing.TB, image string) *models.Attach { return imported(t, image, nil) },
	Hostile: hostile,
	Shared:  true,
	Many:    8,
	Pause:   4 * time.Millisecond,
}

// alone runs the suite on devices that are not shared.
var alone = attachtest.Suite{
	New: suite.New,
	Spec: func(t testing.TB, image string) *models.Attach {
		return imported(t, image, func(_ *models.AttachRbd, o *models.RbdOptions) { o.Noshare = true })
	},
	Hostile: func(testing.TB) []attachtest.Hostile { return nil },
	Many:    8,
	Pause:   suite.Pause,
}

func TestMain(m *testing.M)         { attachtest.Main(m, suite) }
func TestDriver(t *testing.T)       { attachtest.Run(t, suite) }
func TestNoshare(t *testing.T)      { attachtest.Run(t, alone) }
func BenchmarkDriver(b *testing.B)  { attachtest.Benchmark(b, suite) }
func BenchmarkNoshare(b *testing.B) { attachtest.Benchmark(b, alone) }

const credentials = "/run/rbd-lab-credentials"

func newDriver(instance string) attach.Driver { return driver(instance) }

func driver(instance string) *rbd.Driver {
	return rbd.New(rbd.Config{
		Instance: instance, Dir: filepath.Join("/run/rbd-lab", instance), Helper: helper.New(os.Getenv(helpertest.ShimVar)),
		Credentials: credential.Store{Dir: credentials}, MountTimeout: 20 * time.Second, RequestTimeout: 2 * time.Minute,
	})
}

var numbers atomic.Int64

// unique gives a name that no other test has.
func unique(what string) string { return fmt.Sprintf("%s-%d-%d", what, os.Getpid(), numbers.Add(1)) }

// imported makes an image of the file's bytes and a spec of it, changed by change.
func imported(t testing.TB, file string, change func(*models.AttachRbd, *models.RbdOptions)) *models.Attach {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	c := control.Dial(t)
	name := unique("suite")
	c.Ceph().Import(t, "rbd/"+name, f, nil)
	return spec(t, name, change)
}

// spec is one of an image, changed by change.
func spec(t testing.TB, image string, change func(*models.AttachRbd, *models.RbdOptions)) *models.Attach {
	t.Helper()
	pool := "rbd"
	r := &models.AttachRbd{Monitors: []string{control.Monitor}, Pool: &pool, Image: &image,
		Options: &models.RbdOptions{Secret: adminKey(t)}}
	if change != nil {
		change(r, r.Options)
	}
	return &models.Attach{Kind: models.AttachKindRbd, Rbd: r}
}

func adminKey(t testing.TB) string { return control.Dial(t).Ceph().Key(t, "client.admin") }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func hostile(t testing.TB) []attachtest.Hostile {
	image := unique("hostile")
	control.Dial(t).Ceph().Image(t, "rbd/"+image, 1<<20, nil, "v1")
	with := func(change func(*models.AttachRbd, *models.RbdOptions)) *models.Attach { return spec(t, image, change) }
	type r = *models.AttachRbd
	type o = *models.RbdOptions
	return []attachtest.Hostile{
		{What: "nothing", Spec: &models.Attach{}, Kind: fault.Invalid, Says: "rbd is missing"},
		{What: "image and snapshot in one", Spec: with(func(r r, _ o) { *r.Image += "@v1" }), Kind: fault.Invalid, Says: "rbd.image"},
		{What: "a second line", Spec: with(func(r r, _ o) { *r.Image += "\n10.99.0.1:6789 name=admin rbd x" }), Kind: fault.Invalid, Says: "rbd.image"},
		{What: "options in the user", Spec: with(func(_ r, o o) { o.Name = "admin,nocrc" }), Kind: fault.Invalid, Says: "rbd.options.name"},
		{What: "options in a monitor", Spec: with(func(r r, _ o) { r.Monitors[0] += " name=admin" }), Kind: fault.Invalid, Says: "rbd.monitors[0]"},
		{What: "a mark of somebody else's", Spec: with(func(r r, _ o) { r.Snapshot = "v1 windlass:other:1" }), Kind: fault.Invalid, Says: "rbd.snapshot"},
		{What: "a secret that is none", Spec: with(func(_ r, o o) { o.Secret = "TOPSECRET" }), Kind: fault.Invalid, Says: "is no key of Ceph"},
		{What: "a credential that is not there", Spec: with(func(_ r, o o) { o.Secret, o.Credential = "", "missing" }), Kind: fault.NotFound, Says: "rbd.options.credential"},
		{What: "a name that is nowhere", Spec: with(func(r r, _ o) { r.Monitors = []string{"nowhere.invalid"} }), Kind: fault.Backend, Says: "nowhere.invalid"},
	}
}

// attached attaches for the time of the test.
func attached(t *testing.T, d *rbd.Driver, id attach.ID, s *models.Attach, base attach.Base) attach.Device {
	t.Helper()
	dev, err := d.Attach(t.Context(), id, s, base)
	must(t, err)
	t.Cleanup(func() {
		if err := d.Detach(context.Background(), dev, false); err != nil {
			t.Error(err)
		}
		if left, err := d.List(context.Background()); err != nil || slicesHave(left, id) {
			t.Errorf("left: %+v, %v", left, err)
		}
	})
	return dev
}

func slicesHave(all []attach.Device, id attach.ID) bool {
	for _, d := range all {
		if d.ID == id {
			return true
		}
	}
	return false
}

// bytesOf is content that no two images have.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(numbers.Add(1)), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// wantContent reads the device past the page cache.
func wantContent(t testing.TB, dev attach.Device, want []byte) {
	t.Helper()
	got, err := readDirect(dev.Path, len(want))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes that are not those of the image, %v", dev.Path, len(got), err)
	}
}

func readDirect(path string, n int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS) // aligned
	if err != nil {
		return nil, err
	}
	defer unix.Munmap(b)
	done := 0
	for done < n {
		m, err := unix.Pread(fd, b[done:], int64(done))
		if err != nil || m == 0 {
			return nil, errors.Join(err, fmt.Errorf("read %d of %d bytes", done, n))
		}
		done += m
	}
	return bytes.Clone(b), nil
}

// eventually waits until what is asked for is so.
func eventually(t testing.TB, within time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// configInfo is the line with which a device was mapped.
func configInfo(t testing.TB, dev attach.Device) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/sys/bus/rbd/devices/%d/config_info", dev.Number))
	must(t, err)
	return strings.TrimSpace(string(b))
}
