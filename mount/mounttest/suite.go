// Package mounttest holds every mount driver to the contract of mount.Driver, on real file systems. It needs root.
//
// A driver's test declares a Suite for each thing that it mounts and runs them:
//
//	func TestMain(m *testing.M)   { mounttest.Main(m, newDriver) }
//	func TestDriver(t *testing.T) { mounttest.Run(t, suite) }
//
// Main is for the tests that kill the driver in the middle: they start the test binary once more as the process to be killed. In a
// build with the tag `failpoint` they do so before and after each step, else at times of chance.
package mounttest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Suite is what the tests need to know of a driver.
type Suite struct {
	New func() mount.Driver
	// Make makes what a mount lies on and what asks for it. It takes back what it made with t.Cleanup.
	Make func(t testing.TB) Case
	// Hostile are specs that must be refused.
	Hostile func(t testing.TB) []Hostile
}

// Case is something to mount.
type Case struct {
	Spec     *models.Mount
	Below    []mount.Layer
	Files    map[string]string // what it must show: path in the mount, "" for a mount that is a file, and content
	Writable bool
	IDs      *idmap.Range // of mount.Target
	// Single says that there can be one mount of Spec only; a second one is refused as busy.
	Single bool
}

// Hostile is a spec that Mount must refuse, leaving nothing.
type Hostile struct {
	What  string
	Spec  *models.Mount
	Below []mount.Layer
	Kind  fault.Kind // of the error
	Says  string     // what the error must say
}

// Run runs every test of the suite.
func Run(t *testing.T, s Suite) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, fixture)
	}{
		{"it shows what is below", usable},
		{"mount twice", mountTwice},
		{"unmount twice", unmountTwice},
		{"unmount what is in use", unmountBusy},
		{"a place that is taken", placeTaken},
		{"a context that has ended", cancelledBefore},
		{"a context that ends in the middle", cancelledAmid},
		{"killed in the middle", killed},
		{"killed while unmounting", killedUnmounting},
		{"a step that fails or hangs", failing},
		{"many at once", many},
		{"hostile specs", hostile},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newFixture(t, s)) })
	}
}

// fixture is what one test works with.
type fixture struct {
	Suite
	Case
	driver mount.Driver
	dir    string // stands for the daemon's run directory
}

func newFixture(t testing.TB, s Suite) fixture {
	t.Helper()
	f := fixture{Suite: s, driver: s.New(), dir: t.TempDir()}
	f.Case = s.Make(t)
	for _, sub := range []string{"mounts", "scratch"} {
		if err := os.Mkdir(filepath.Join(f.dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// Registered after what is below, so it runs before that goes.
	t.Cleanup(func() { NoLeak(t, f.dir) })
	return f
}

// NoLeak fails when something is mounted below dir, and takes it away.
func NoLeak(t testing.TB, dir string) {
	t.Helper()
	infos, err := mountinfo.Below(dir)
	if err != nil {
		t.Error(err)
	}
	for _, i := range slices.Backward(infos) {
		t.Errorf("left behind: %s at %s", i.FSType, i.Mountpoint)
		_ = unix.Unmount(i.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
}

// target makes the mountpoint of an id, as the chain does.
func (f fixture) target(t testing.TB, id mount.ID) mount.Target {
	t.Helper()
	name := strconv.FormatInt(int64(id), 10)
	target := mount.Target{Dir: filepath.Join(f.dir, "mounts", name), Scratch: filepath.Join(f.dir, "scratch", name), IDs: f.IDs}
	if err := os.Mkdir(target.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return target
}

func (f fixture) mount(t testing.TB, id mount.ID) mount.Active {
	t.Helper()
	a, err := f.driver.Mount(t.Context(), id, f.Spec, f.Below, f.target(t, id))
	if err != nil {
		t.Fatalf("mount %d: %v (%s)", id, err, fault.HintOf(err))
	}
	t.Cleanup(func() {
		if err := f.driver.Unmount(context.Background(), a, false); err != nil {
			t.Errorf("unmount %d at the end: %v", id, err)
		}
	})
	return a
}

func (f fixture) unmount(t testing.TB, a mount.Active) {
	t.Helper()
	if err := f.driver.Unmount(t.Context(), a, false); err != nil {
		t.Fatalf("unmount %d: %v", a.ID, err)
	}
}

// wantReady fails when the mount is not as it was mounted.
func (f fixture) wantReady(t testing.TB, a mount.Active) {
	t.Helper()
	found, state, err := f.driver.Probe(t.Context(), a.ID, f.Spec, a.Target)
	if err != nil || state != mount.Ready || !reflect.DeepEqual(found, a) {
		t.Errorf("probe: state %d, %+v, %v; mounted was %+v", state, found, err, a)
	}
	f.wantFiles(t, a)
}

// wantFiles fails when the mount does not show what is below.
func (f fixture) wantFiles(t testing.TB, a mount.Active) {
	t.Helper()
	for name, want := range f.Files {
		if got, err := os.ReadFile(filepath.Join(a.Target.Dir, name)); err != nil || string(got) != want {
			t.Errorf("%s in the mount is %q, %v", name, got, err)
		}
	}
}

// wantGone fails when there is anything left of id.
func (f fixture) wantGone(t testing.TB, id mount.ID) {
	t.Helper()
	target := f.target(t, id)
	a, state, err := f.driver.Probe(t.Context(), id, f.Spec, target)
	if err != nil || state != mount.Gone {
		t.Errorf("there is still something of %d: state %d, %+v, %v", id, state, a, err)
	}
	if info, err := os.Lstat(target.Dir); err != nil || !info.IsDir() {
		t.Errorf("the mountpoint is no directory any more: %v, %v", info, err)
	}
	if _, err := os.Lstat(target.Scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the scratch directory is left: %v", err)
	}
	for _, path := range []string{target.Dir, target.Scratch} {
		if infos, err := mountinfo.Below(path); err != nil || len(infos) != 0 {
			t.Errorf("there are %d mounts left at %s: %v", len(infos), path, err)
		}
	}
}
