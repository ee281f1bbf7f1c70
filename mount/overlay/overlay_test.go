package overlay

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// legacyVar has a child use the calls of older kernels.
const legacyVar = "WINDLASS_OVERLAY_TEST_LEGACY"

func newDriver() mount.Driver {
	d := New()
	d.legacy = os.Getenv(legacyVar) != ""
	return d
}

func TestMain(m *testing.M) { mounttest.Main(m, newDriver) }

// spec is an overlay on n lowers.
func spec(n int, upper *models.OverlayUpper) *models.Mount {
	part := &models.MountOverlay{Upper: upper}
	for i := range n {
		part.Lower = append(part.Lower, &models.Mount{ID: models.ID(10 + i)})
	}
	return &models.Mount{Kind: models.MountKindOverlay, Overlay: part}
}

func readOnlySpec(n int) *models.Mount {
	s := spec(n, nil)
	yes := true
	s.Overlay.Ro = &yes
	return s
}

func lowers(dirs ...string) []mount.Layer {
	var below []mount.Layer
	for i, dir := range dirs {
		below = append(below, mount.Layer{Role: mount.RoleLower, ID: models.ID(10 + i), Path: dir, ReadOnly: true})
	}
	return below
}

func upperLayer(dir string) mount.Layer { return mount.Layer{Role: mount.RoleUpper, ID: 30, Path: dir} }

// mixed is a name with all that overlayfs takes for an end.
const mixed = `a:b,c\d e`

// odd is a directory whose path has all that overlayfs takes for an end.
func odd(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), mixed)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mounttest.Write(t, dir, files)
	return dir
}

func squashfs(t testing.TB) string { return packed(t, "squashfs") }

// packed is a mount of an image with mounttest.Files.
func packed(t testing.TB, fsType string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(mounttest.Loop(t, mounttest.Image(t, fsType), true).Path, dir, fsType, unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func tmpfs(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestDriver(t *testing.T) {
	cases := map[string]func(t testing.TB) mounttest.Case{
		"own tmpfs on a squashfs": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: spec(1, nil), Below: lowers(squashfs(t)), Files: mounttest.Files(), Writable: true}
		},
		"kept upper": func(t testing.TB) mounttest.Case {
			up := &models.OverlayUpper{Path: odd(t, nil)}
			return mounttest.Case{Spec: spec(1, up), Below: lowers(mounttest.Tree(t)), Files: mounttest.Files(), Writable: true, Single: true}
		},
		"upper in a mount": func(t testing.TB) mounttest.Case {
			up := &models.OverlayUpper{Mount: &models.Mount{ID: 30}}
			below := append(lowers(mounttest.Tree(t)), upperLayer(tmpfs(t)))
			return mounttest.Case{Spec: spec(1, up), Below: below, Files: mounttest.Files(), Writable: true, Single: true}
		},
		"with the ids of a user namespace": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: spec(2, nil), Below: lowers(odd(t, nil), packed(t, "erofs")), Files: mounttest.Files(), Writable: true, IDs: container()}
		},
		"with the ids of a user namespace, kept upper": func(t testing.TB) mounttest.Case {
			up := &models.OverlayUpper{Path: odd(t, nil)}
			return mounttest.Case{Spec: spec(1, up), Below: lowers(packed(t, "erofs")), Files: mounttest.Files(), Writable: true, Single: true, IDs: container()}
		},
		"with the ids of a user namespace, read-only": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: readOnlySpec(1), Below: lowers(packed(t, "erofs")), Files: mounttest.Files(), IDs: container()}
		},
		"read-only": func(t testing.TB) mounttest.Case {
			return mounttest.Case{Spec: readOnlySpec(1), Below: lowers(squashfs(t)), Files: mounttest.Files()}
		},
		"read-only, two lowers with odd names": func(t testing.TB) mounttest.Case {
			below := lowers(odd(t, map[string]string{"hello": "upper\n"}), odd(t, mounttest.Files()))
			return mounttest.Case{Spec: readOnlySpec(2), Below: below, Files: map[string]string{"hello": "upper\n", "dir/deep/file": "deep\n"}}
		},
	}
	for _, legacy := range []string{"", "yes"} {
		for name, build := range cases {
			t.Run(name+map[string]string{"": "", "yes": ", older kernel"}[legacy], func(t *testing.T) {
				t.Setenv(legacyVar, legacy)
				mounttest.Run(t, mounttest.Suite{New: newDriver, Make: build, Hostile: hostile})
			})
		}
	}
}

func hostile(t testing.TB) []mounttest.Hostile {
	tree, file := mounttest.Tree(t), filepath.Join(mounttest.Tree(t), "hello")
	null, none := spec(2, nil), spec(0, nil)
	null.Overlay.Lower[1] = nil
	both := spec(1, &models.OverlayUpper{Path: "/srv", Mount: &models.Mount{ID: 3}})
	ro := readOnlySpec(1)
	ro.Overlay.Upper = &models.OverlayUpper{}
	led := t.TempDir() // its upper is a link out of it
	if err := os.Symlink("/etc", filepath.Join(led, "upper")); err != nil {
		t.Fatal(err)
	}
	path := func(p string) *models.Mount { return spec(1, &models.OverlayUpper{Path: p}) }
	in := spec(1, &models.OverlayUpper{Mount: &models.Mount{ID: 30}})
	readOnly := upperLayer(tree)
	readOnly.ReadOnly = true
	return []mounttest.Hostile{
		{What: "nothing", Spec: nil, Kind: fault.Invalid, Says: "overlay is missing"},
		{What: "no part", Spec: &models.Mount{}, Kind: fault.Invalid, Says: "overlay is missing"},
		{What: "no lower", Spec: none, Kind: fault.Invalid, Says: "overlay.lower is empty"},
		{What: "null among the lowers", Spec: null, Kind: fault.Invalid, Says: "overlay.lower[1] is null"},
		{What: "501 lowers", Spec: spec(501, nil), Kind: fault.Invalid, Says: "500 are the most"},
		{What: "ro and upper", Spec: ro, Kind: fault.Invalid, Says: "overlay.ro"},
		{What: "path and mount", Spec: both, Kind: fault.Invalid, Says: "both path and mount"},
		{What: "path and size", Spec: spec(1, &models.OverlayUpper{Path: "/srv", Size: 1 << 20}), Kind: fault.Invalid, Says: "limits of a tmpfs"},
		{What: "small size", Spec: spec(1, &models.OverlayUpper{Size: 1}), Kind: fault.Invalid, Says: "overlay.upper.size"},
		{What: "one inode", Spec: spec(1, &models.OverlayUpper{Inodes: 1}), Kind: fault.Invalid, Says: "overlay.upper.inodes"},
		{What: "relative upper", Spec: path("srv"), Kind: fault.Invalid, Says: "overlay.upper.path"},
		{What: "escaping upper", Spec: path("/srv/../etc"), Kind: fault.Invalid, Says: "overlay.upper.path"},
		{What: "upper not there", Spec: path("/windlass-no-such-directory"), Below: lowers(tree), Kind: fault.NotFound, Says: "no-such-directory"},
		{What: "upper is a file", Spec: path(file), Below: lowers(tree), Kind: fault.Invalid, Says: "not a directory"},
		{What: "upper is led away", Spec: path(led), Below: lowers(tree), Kind: fault.Invalid, Says: "/upper"},
		{What: "upper on proc", Spec: path("/proc/self/task"), Below: lowers(tree), Kind: fault.Internal, Says: "/proc/self/task/upper"},
		{What: "no layer for the upper", Spec: in, Below: lowers(tree), Kind: fault.Invalid, Says: "overlay.upper.mount"},
		{What: "read-only mount for the upper", Spec: in, Below: append(lowers(tree), readOnly), Kind: fault.Invalid, Says: "read-only"},
		{What: "no layers", Spec: spec(1, nil), Kind: fault.Invalid, Says: "overlay.lower is empty"},
		{What: "a lower that is a file", Spec: spec(1, nil), Below: lowers(file), Kind: fault.Invalid, Says: "not a directory but a file"},
		{What: "one lower twice", Spec: spec(2, nil), Below: lowers(tree, tree), Kind: fault.Invalid, Says: "overlay"},
	}
}

// place is a mount with its place.
type place struct {
	d      mount.Driver
	target mount.Target
}

func newPlace(t *testing.T, d mount.Driver) place {
	t.Helper()
	dir := t.TempDir()
	p := place{d, mount.Target{Dir: filepath.Join(dir, "m"), Scratch: filepath.Join(dir, "s")}}
	if err := os.Mkdir(p.target.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mounttest.NoLeak(t, dir) })
	return p
}

func (p place) mount(t *testing.T, spec *models.Mount, below []mount.Layer) mount.Active {
	t.Helper()
	a, err := p.d.Mount(t.Context(), 1, spec, below, p.target)
	if err != nil {
		t.Fatalf("mount: %v (%s)", err, fault.HintOf(err))
	}
	return a
}

func (p place) unmount(t *testing.T) {
	t.Helper()
	if err := p.d.Unmount(t.Context(), mount.Active{ID: 1, Target: p.target}, false); err != nil {
		t.Error(err)
	}
}

func (p place) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(p.target.Dir, name))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// both runs a test with the calls of this kernel and with those of older ones.
func both(t *testing.T, test func(t *testing.T, d mount.Driver)) {
	t.Run("this kernel", func(t *testing.T) { test(t, New()) })
	t.Run("older kernel", func(t *testing.T) { test(t, &Driver{taken: map[inode]bool{}, legacy: true}) })
}

// TestFirstLowerIsUppermost is also for paths with ':', ',' and '\', which broke the forerunner's mounts.
func TestFirstLowerIsUppermost(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		below := lowers(
			odd(t, map[string]string{"all": "0", "zero": "0"}), odd(t, map[string]string{"all": "1", "one": "1"}), odd(t, map[string]string{"all": "2", "two": "2"}))
		p := newPlace(t, d)
		p.mount(t, spec(3, nil), below)
		if got := p.read(t, "all") + p.read(t, "zero") + p.read(t, "one") + p.read(t, "two"); got != "0012" {
			t.Errorf("got %q", got)
		}
		p.unmount(t)
	})
}

func TestManyLowers(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		root := t.TempDir()
		var dirs []string
		for n := range 60 {
			dir := filepath.Join(root, strconv.Itoa(n))
			mounttest.Write(t, dir, map[string]string{"f" + strconv.Itoa(n): ""})
			dirs = append(dirs, dir)
		}
		p := newPlace(t, d)
		_, err := d.Mount(t.Context(), 1, spec(60, nil), lowers(dirs...), p.target)
		if fault.Is(err, fault.Unsupported) && strings.Contains(err.Error(), "this kernel takes") {
			p.unmount(t)
			if _, err := os.Lstat(p.target.Scratch); err == nil {
				t.Error("the scratch directory is left")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(p.target.Dir); err != nil || len(entries) != 60 {
			t.Errorf("%d files, %v", len(entries), err)
		}
		p.unmount(t)
	})
}

func TestOwnUpperHasLimitsAndGoes(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		p := newPlace(t, d)
		lower := mounttest.Tree(t)
		a := p.mount(t, spec(1, &models.OverlayUpper{Size: 1 << 20, Inodes: 64}), lowers(lower))
		if a.Upperdir != p.target.Scratch+"/upper" || a.Workdir != p.target.Scratch+"/work" {
			t.Errorf("upperdir %q, workdir %q", a.Upperdir, a.Workdir)
		}
		if err := os.WriteFile(filepath.Join(p.target.Dir, "hello"), []byte("changed"), 0o600); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(filepath.Join(a.Upperdir, "hello")); err != nil || string(b) != "changed" {
			t.Errorf("in the upper: %q, %v", b, err)
		}
		if b, err := os.ReadFile(filepath.Join(lower, "hello")); err != nil || string(b) != "hello, world\n" {
			t.Errorf("in the lower: %q, %v", b, err)
		}
		if err := os.WriteFile(filepath.Join(p.target.Dir, "big"), make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("2 MiB into 1 MiB: %v", err)
		}
		p.unmount(t)
		p.mount(t, spec(1, nil), lowers(lower))
		if got := p.read(t, "hello"); got != "hello, world\n" {
			t.Errorf("what was written has come back: %q", got)
		}
		p.unmount(t)
	})
}

func TestKeptUpperIsKept(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		up, lower := odd(t, nil), mounttest.Tree(t)
		other := odd(t, map[string]string{"new": "image"})
		p := newPlace(t, d)
		a := p.mount(t, spec(1, &models.OverlayUpper{Path: up}), lowers(lower))
		if a.Upperdir != up+"/upper" || a.Workdir != up+"/work" {
			t.Errorf("upperdir %q, workdir %q", a.Upperdir, a.Workdir)
		}
		if err := os.WriteFile(filepath.Join(p.target.Dir, "mine"), []byte("kept"), 0o600); err != nil {
			t.Error(err)
		}
		p.unmount(t)
		// A new version of the image must be able to go below it.
		p.mount(t, spec(1, &models.OverlayUpper{Path: up}), lowers(other))
		if p.read(t, "mine") != "kept" || p.read(t, "new") != "image" {
			t.Error("the upper or the new lower is not there")
		}
		p.unmount(t)
		if _, err := os.Stat(filepath.Join(up, "upper", "mine")); err != nil {
			t.Error(err)
		}
	})
}

func TestAFailedMountLeavesAKeptUpperAsItWas(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		up, lower := t.TempDir(), mounttest.Tree(t)
		p := newPlace(t, d)
		if _, err := d.Mount(t.Context(), 1, spec(2, &models.OverlayUpper{Path: up}), lowers(lower, lower), p.target); err == nil {
			t.Error("an overlay with one lower twice was mounted")
		}
		if entries, err := os.ReadDir(up); err != nil || len(entries) != 0 {
			t.Errorf("left in the upper: %v, %v", entries, err)
		}
		// The upper is free again.
		p.mount(t, spec(1, &models.OverlayUpper{Path: up}), lowers(lower))
		p.unmount(t)
	})
}

func TestTwoOverlaysOnOneUpper(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		up, lower := odd(t, nil), mounttest.Tree(t)
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(up, link); err != nil {
			t.Fatal(err)
		}
		p := newPlace(t, d)
		p.mount(t, spec(1, &models.OverlayUpper{Path: up}), lowers(lower))
		for _, path := range []string{up, link} {
			// A daemon that starts anew has a driver that remembers nothing.
			for _, d := range []mount.Driver{d, New()} {
				second := newPlace(t, d)
				_, err := d.Mount(t.Context(), 2, spec(1, &models.OverlayUpper{Path: path}), lowers(lower), second.target)
				if !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), p.target.Dir) {
					t.Errorf("the second on %s: %v, want busy naming %s", path, err, p.target.Dir)
				}
			}
		}
		p.unmount(t)
	})
}

func TestRootLooksAsInTheUppermostLower(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		lower := mounttest.Tree(t)
		if err := errors.Join(os.Chown(lower, 7, 8), os.Chmod(lower, 0o751|os.ModeSticky)); err != nil {
			t.Fatal(err)
		}
		p := newPlace(t, d)
		p.mount(t, spec(1, nil), lowers(lower))
		var st unix.Stat_t
		if err := unix.Stat(p.target.Dir, &st); err != nil || st.Mode&0o7777 != 0o1751 || st.Uid != 7 || st.Gid != 8 {
			t.Errorf("mode %o, owner %d:%d, %v", st.Mode, st.Uid, st.Gid, err)
		}
		p.unmount(t)
	})
}

// TestSomebodyInTheScratchKeepsTheOverlay is for the forerunner, which deleted an upper that was in use.
func TestSomebodyInTheScratchKeepsTheOverlay(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		p := newPlace(t, d)
		a := p.mount(t, spec(1, nil), lowers(mounttest.Tree(t)))
		held, err := os.Create(filepath.Join(a.Upperdir, "held"))
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		if err := d.Unmount(t.Context(), a, true); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "/held") {
			t.Errorf("unmount: %v", err)
		}
		if found, state, err := d.Probe(t.Context(), 1, nil, p.target); err != nil || state != mount.Ready || found != a {
			t.Errorf("probe: %d, %+v, %v", state, found, err)
		}
		held.Close()
		p.unmount(t)
	})
}

func TestScratchWithoutOverlayIsPartialAndGoes(t *testing.T) {
	d := New()
	p := newPlace(t, d)
	p.mount(t, spec(1, nil), lowers(mounttest.Tree(t)))
	if err := unix.Unmount(p.target.Dir, 0); err != nil {
		t.Fatal(err)
	}
	if i, err := fsmount.At(p.target.Scratch); err != nil || i == nil || i.FSType != "tmpfs" {
		t.Fatalf("at the scratch there is %+v, %v", i, err)
	}
	if _, state, err := d.Probe(t.Context(), 1, nil, p.target); err != nil || state != mount.Partial {
		t.Errorf("probe: %d, %v", state, err)
	}
	p.unmount(t)
	if infos, err := mountinfo.Below(filepath.Dir(p.target.Dir)); err != nil || len(infos) != 0 {
		t.Errorf("left: %d, %v", len(infos), err)
	}
}

func TestEscapesAreTakenBack(t *testing.T) {
	for _, path := range []string{"/plain", mixed, `\`, `\\,`, `a\054b`, "a:b"} {
		if got := unescape(escape(path, ":")); got != path {
			t.Errorf("%q became %q", path, got)
		}
	}
	for shown, want := range map[string]string{`a\054b`: "a,b", `a\134:b`: `a\:b`, `\04`: `\04`, `\777`: `\777`, ``: ``} {
		if got := unoctal(shown); got != want {
			t.Errorf("%q became %q, want %q", shown, got, want)
		}
	}
}
