package bind_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/bind"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func newDriver() mount.Driver { return bind.New() }

func TestMain(m *testing.M) { mounttest.Main(m, newDriver) }

// spec binds a path of the node; options are recursive and ro.
func spec(path string, options ...string) *models.Mount {
	part := &models.MountBind{Path: &path, Base: models.NewBase(models.BaseRoot)}
	for _, o := range options {
		yes := true
		switch o {
		case "recursive":
			part.Recursive = &yes
		case "ro":
			part.Ro = &yes
		}
	}
	return &models.Mount{Kind: models.MountKindBind, Bind: part}
}

// inMount is spec for a path in the mount below.
func inMount(path string, options ...string) *models.Mount {
	s := spec(path, options...)
	s.Bind.Base, s.Bind.Mount = models.NewBase(models.BaseMount), &models.Mount{ID: 7}
	return s
}

func base(dir string) []mount.Layer { return []mount.Layer{{Role: mount.RoleBase, ID: 7, Path: dir}} }

// nested is a tree with a tmpfs on sub and one on sub/sub, each with a file.
func nested(t testing.TB) string {
	t.Helper()
	tree := mounttest.Tree(t)
	for _, sub := range []string{"sub", "sub/sub"} {
		dir := filepath.Join(tree, sub)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
		})
		mounttest.Write(t, dir, map[string]string{"file": sub})
	}
	return tree
}

func TestDriver(t *testing.T) {
	below := map[string]string{"hello": "hello, world\n", "sub/file": "sub", "sub/sub/file": "sub/sub"}
	for name, build := range map[string]func(t testing.TB) mounttest.Case{
		"directory": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: spec(mounttest.Tree(t)), Files: mounttest.Files(), Writable: true}
		},
		"directory, read-only": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: spec(mounttest.Tree(t), "ro"), Files: mounttest.Files()}
		},
		"recursive": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: spec(nested(t), "recursive"), Files: below, Writable: true}
		},
		"recursive, read-only": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: spec(nested(t), "recursive", "ro"), Files: below}
		},
		"file": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: spec(filepath.Join(mounttest.Tree(t), "hello")), Files: map[string]string{"": "hello, world\n"}, Writable: true}
		},
		"file, read-only, recursive": func(t testing.TB) mounttest.Case {
			path := filepath.Join(mounttest.Tree(t), "hello")
			return mounttest.Case{Spec: spec(path, "ro", "recursive"), Files: map[string]string{"": "hello, world\n"}}
		},
		"in a mount": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: inMount("/dir"), Below: base(mounttest.Tree(t)), Files: map[string]string{"deep/file": "deep\n"}, Writable: true}
		},
	} {
		t.Run(name, func(t *testing.T) { mounttest.Run(t, mounttest.Suite{New: newDriver, Make: build, Hostile: hostile}) })
	}
}

func hostile(t testing.TB) []mounttest.Hostile {
	tree := mounttest.Tree(t)
	for name, to := range map[string]string{"host": "/etc", "up": "../../../../../../etc", "loop": "loop", "passwd": "/etc/passwd"} {
		if err := os.Symlink(to, filepath.Join(tree, name)); err != nil {
			t.Fatal(err)
		}
	}
	none, both := spec("/"), spec("/")
	none.Bind.Base, both.Bind.Mount = nil, &models.Mount{ID: 7}
	alone := inMount("/")
	alone.Bind.Mount = nil
	odd := models.Base("moon")
	moon := spec("/")
	moon.Bind.Base = &odd
	return []mounttest.Hostile{
		{What: "nothing", Spec: nil, Kind: fault.Invalid, Says: "bind is missing"},
		{What: "no part", Spec: &models.Mount{}, Kind: fault.Invalid, Says: "bind is missing"},
		{What: "no path", Spec: &models.Mount{Bind: &models.MountBind{}}, Kind: fault.Invalid, Says: "bind.path is missing"},
		{What: "no base", Spec: none, Kind: fault.Invalid, Says: "bind.base is missing"},
		{What: "unknown base", Spec: moon, Kind: fault.Invalid, Says: `bind.base is "moon"`},
		{What: "root and a mount", Spec: both, Kind: fault.Invalid, Says: "bind.base is root"},
		{What: "mount and no mount", Spec: alone, Kind: fault.Invalid, Says: "bind.mount is missing"},
		{What: "relative", Spec: spec("etc"), Kind: fault.Invalid, Says: "bind.path"},
		{What: "escaping", Spec: spec("/srv/../etc"), Kind: fault.Invalid, Says: "bind.path"},
		{What: "NUL", Spec: inMount("/a\x00b"), Below: base(tree), Kind: fault.Invalid, Says: "NUL"},
		{What: "not there", Spec: spec("/windlass-no-such-directory"), Kind: fault.NotFound, Says: "no-such-directory"},
		{What: "below a file", Spec: spec("/etc/passwd/x"), Kind: fault.Invalid, Says: "/etc/passwd/x"},
		{What: "link out of the mount", Spec: inMount("/host/passwd"), Below: base(tree), Kind: fault.NotFound, Says: "in the mount below"},
		{What: "link to a file out of the mount", Spec: inMount("/passwd"), Below: base(tree), Kind: fault.NotFound, Says: "in the mount below"},
		{What: "link up out of the mount", Spec: inMount("up/passwd"), Below: base(tree), Kind: fault.NotFound, Says: "in the mount below"},
		{What: "dots out of the mount", Spec: inMount("../../../../../etc/passwd"), Below: base(tree), Kind: fault.Invalid, Says: "name the place itself"},
		{What: "link to itself", Spec: inMount("loop"), Below: base(tree), Kind: fault.Invalid, Says: "loop"},
		{What: "no layer", Spec: inMount("/"), Kind: fault.Invalid, Says: "bind.mount"},
		{What: "in a mount that is a file", Spec: inMount("/x"), Below: base("/etc/passwd"), Kind: fault.Invalid, Says: "bind.path"},
	}
}

// place mounts spec and gives where.
func place(t *testing.T, spec *models.Mount) (mount.Driver, mount.Active) {
	t.Helper()
	d := newDriver()
	return d, mounttest.Mounted(t, d, spec)
}

// TestReadOnlyBindCannotBeWritten is for the forerunner's bind with ro true, which was writable.
func TestReadOnlyBindCannotBeWritten(t *testing.T) {
	tree := nested(t)
	d, a := place(t, spec(tree, "recursive", "ro"))
	for _, sub := range []string{"", "sub", "sub/sub"} {
		if err := os.WriteFile(filepath.Join(a.Target.Dir, sub, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("write in %q: %v", sub, err)
		}
		if err := os.WriteFile(filepath.Join(tree, sub, "new"), nil, 0o600); err != nil {
			t.Errorf("the source cannot be written any more: %v", err)
		}
	}
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
}

// TestBindOnTheSameFileSystemIsAMountpoint is for the forerunner's comparison of st_dev, which such a bind does not change.
func TestBindOnTheSameFileSystemIsAMountpoint(t *testing.T) {
	d, a := place(t, spec(mounttest.Tree(t)))
	var here, above unix.Stat_t
	if err := errors.Join(unix.Stat(a.Target.Dir, &here), unix.Stat(filepath.Dir(a.Target.Dir), &above)); err != nil {
		t.Fatal(err)
	}
	if here.Dev != above.Dev {
		t.Fatal("the test is in vain: the source lies on another file system")
	}
	if _, state, err := d.Probe(t.Context(), 1, nil, a.Target); err != nil || state != mount.Ready {
		t.Errorf("probe: %d, %v", state, err)
	}
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
	if mounted, err := mountinfo.IsMountpoint(a.Target.Dir); err != nil || mounted {
		t.Errorf("after unmount it is a mountpoint: %v, %v", mounted, err)
	}
}

func TestABusyMountBelowKeepsTheWholeBind(t *testing.T) {
	d, a := place(t, spec(nested(t), "recursive"))
	f, err := os.Create(filepath.Join(a.Target.Dir, "sub", "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := d.Unmount(t.Context(), a, false); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "/sub/held") {
		t.Errorf("unmount: %v", err)
	}
	if infos, err := mountinfo.Below(a.Target.Dir); err != nil || len(infos) != 3 {
		t.Errorf("there are %d mounts, %v; there were 3", len(infos), err)
	}
	f.Close()
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
}

func TestWhatOthersMountedOnAPlainBindIsNotTouched(t *testing.T) {
	d, a := place(t, spec(mounttest.Tree(t)))
	other := filepath.Join(a.Target.Dir, "dir")
	if err := unix.Mount("tmpfs", other, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Unmount(t.Context(), a, false); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), other) {
		t.Errorf("unmount: %v", err)
	}
	if err := unix.Unmount(other, 0); err != nil {
		t.Error(err)
	}
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
}

// TestUnmountingARecursiveBindLeavesTheSource has the source shared, as systemd makes everything.
func TestUnmountingARecursiveBindLeavesTheSource(t *testing.T) {
	tree := nested(t)
	if err := unix.Mount(tree, tree, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(tree, unix.MNT_DETACH) })
	if err := unix.Mount("", tree, "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		t.Fatal(err)
	}
	d, a := place(t, spec(tree, "recursive"))
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(tree, "sub/sub/file")); err != nil || string(b) != "sub/sub" {
		t.Errorf("what is mounted below the source has gone: %q, %v", b, err)
	}
}
