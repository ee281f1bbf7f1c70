// Package attachtest holds every attach driver to the contract of attach.Driver, on real devices. It needs root.
//
// A driver's test declares a Suite and runs it:
//
//	func TestMain(m *testing.M)      { attachtest.Main(m, suite) }
//	func TestDriver(t *testing.T)    { attachtest.Run(t, suite) }
//	func BenchmarkDriver(b *testing.B) { attachtest.Benchmark(b, suite) }
//
// Main is for the tests that kill the driver in the middle: they start the test binary once more as the process to be killed. In a
// build with the tag `failpoint` they do so before and after each step, else at times of chance.
package attachtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Suite is what the tests need to know of a driver.
type Suite struct {
	// New makes a driver whose devices belong to this instance of the daemon.
	New func(instance string) attach.Driver
	// Spec makes a spec of a device that has the bytes of the file image. Base is "/" and not confined.
	Spec func(t testing.TB, image string) *models.Attach
	// Passive is for a driver whose devices are there before Attach and after Detach.
	Passive bool
	// Hostile are specs that must be refused.
	Hostile func(t testing.TB) []Hostile
	// Shared is for a driver that gives attachments of the same spec the same device.
	Shared bool
	// Many is how many attachments there are at once in the test of that; 0 is 50.
	Many int
	// Pause is what one kill, or one end of a context, by chance is later than the one before it; 0 is 50 µs, for an Attach of less than
	// a millisecond. It is to be a twentieth of how long an Attach takes.
	Pause time.Duration
}

// pause is Pause, or what stands for it.
func (s Suite) pause() time.Duration { return cmp.Or(s.Pause, 50*time.Microsecond) }

// Hostile is a spec that Attach must refuse, leaving nothing.
type Hostile struct {
	What string
	Spec *models.Attach
	Base attach.Base // Dir "/" when it is empty
	Kind fault.Kind  // of the error
	Says string      // what the error must say
}

// Run runs every test of the suite.
func Run(t *testing.T, s Suite) {
	for name, test := range map[string]func(*testing.T, fixture){
		"the device has the bytes":          usable,
		"attach twice":                      attachTwice,
		"detach twice":                      detachTwice,
		"detach a device in use":            detachBusy,
		"a context that has ended":          cancelledBefore,
		"a context that ends in the middle": cancelledAmid,
		"killed in the middle":              killed,
		"killed while detaching":            killedDetaching,
		"a step that fails or hangs":        failing,
		"hostile specs":                     hostile,
		"list":                              list,
		"many at once":                      many,
	} {
		t.Run(name, func(t *testing.T) { test(t, newFixture(t, s)) })
	}
}

// root is the base of a spec that lies on nothing.
func root() attach.Base { return attach.Base{Dir: "/"} }

// fixture is what one test works with.
type fixture struct {
	Suite
	driver   attach.Driver
	instance string
	dir      string // where the images lie
	image    string
	content  []byte
}

// instances numbers the fixtures of this process, so that each has devices of its own.
var instances atomic.Int64

func newFixture(t testing.TB, s Suite) fixture {
	t.Helper()
	instance := fmt.Sprintf("at%d-%d", os.Getpid(), instances.Add(1))
	f := fixture{Suite: s, driver: s.New(instance), instance: instance, dir: t.TempDir()}
	f.content = content()
	f.image = filepath.Join(f.dir, "image")
	if err := os.WriteFile(f.image, f.content, 0o600); err != nil {
		t.Fatal(err)
	}
	// Registered first, so it runs after what the test itself takes back.
	t.Cleanup(func() { f.noLeak(t) })
	return f
}

// content is 1 MiB that no two sectors of are alike.
func content() []byte {
	b := make([]byte, 1<<20)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// noLeak fails when a device is left of the test, or a loop device on a file of it, and clears it.
func (f fixture) noLeak(t testing.TB) {
	left, err := f.driver.List(context.Background())
	if err != nil {
		t.Error(err)
	}
	for _, dev := range left {
		t.Errorf("left behind: %+v", dev)
		_ = f.driver.Detach(context.Background(), dev, true)
	}
	all, err := loopdev.List(context.Background())
	if err != nil {
		t.Error(err)
	}
	for _, dev := range all {
		if strings.HasPrefix(dev.BackingFile, f.dir+"/") {
			t.Errorf("left behind: %s (%s) on %s", dev.Path, dev.Name, dev.BackingFile)
			_ = loopdev.Detach(context.Background(), dev.Path)
		}
	}
}

func (f fixture) attach(t testing.TB, id attach.ID, spec *models.Attach) attach.Device {
	t.Helper()
	dev, err := f.driver.Attach(t.Context(), id, spec, root())
	if err != nil {
		t.Fatalf("attach %d: %v", id, err)
	}
	t.Cleanup(func() {
		if err := f.driver.Detach(context.Background(), dev, false); err != nil {
			t.Errorf("detach %d at the end: %v", id, err)
		}
	})
	return dev
}

func (f fixture) detach(t testing.TB, dev attach.Device) {
	t.Helper()
	if err := f.driver.Detach(t.Context(), dev, false); err != nil {
		t.Fatalf("detach %d: %v", dev.ID, err)
	}
}

func (f fixture) probe(t testing.TB, id attach.ID, spec *models.Attach) (attach.Device, attach.State) {
	t.Helper()
	dev, state, err := f.driver.Probe(t.Context(), id, spec)
	if err != nil {
		t.Fatalf("probe %d: %v", id, err)
	}
	return dev, state
}

// wantGone fails when there is anything of id; what a passive driver has is always there.
func (f fixture) wantGone(t testing.TB, id attach.ID, spec *models.Attach) {
	t.Helper()
	if dev, state := f.probe(t, id, spec); !f.Passive && state != attach.Gone {
		t.Errorf("there is still something of %d: state %d, %+v", id, state, dev)
	}
}

// check reads the device.
func check(t testing.TB, dev attach.Device, want []byte) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(dev.Path, &st); err != nil {
		t.Errorf("stat %s: %v", dev.Path, err)
	} else if st.Mode&unix.S_IFMT != unix.S_IFBLK || uint64(st.Rdev) != dev.DevNum {
		t.Errorf("%s is not block device %d", dev.Path, dev.DevNum)
	}
	got, err := os.ReadFile(dev.Path)
	if err != nil {
		t.Error(err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes that are not the %d of the image", dev.Path, len(got), len(want))
	}
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
