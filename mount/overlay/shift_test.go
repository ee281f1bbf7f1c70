package overlay

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// The images here are of erofs, which older kernels can show with other ids; squashfs they cannot.

// first is where the ids of a container begin in the tests.
const first = 0x10070000

func container() *idmap.Range { return &idmap.Range{First: first, Size: 65536} }

// owned is a lower layer with files of several owners. The file of 70000 is nobody's in a user namespace.
func owned(t *testing.T) string {
	t.Helper()
	dir := mounttest.Tree(t)
	mounttest.Write(t, dir, map[string]string{"of-root": "root", "of-user": "user", "of-nobody": "none", "suid": "x"})
	err := errors.Join(os.Chown(dir, 0, 0), os.Chmod(dir, 0o751), os.Chown(filepath.Join(dir, "of-user"), 1000, 100), os.Chmod(filepath.Join(dir, "of-user"), 0o640),
		os.Chown(filepath.Join(dir, "of-nobody"), 70000, 70000), os.Chmod(filepath.Join(dir, "suid"), 0o755|os.ModeSetuid))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantOwner looks at a file as the node sees it.
func wantOwner(t *testing.T, path string, uid, gid, mode uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Uid != uid || st.Gid != gid || st.Mode&0o7777 != mode {
		t.Errorf("%s: %d:%d, mode %o, %v; want %d:%d, mode %o", path, st.Uid, st.Gid, st.Mode&0o7777, err, uid, gid, mode)
	}
}

// inside runs a script as root of a user namespace with the ids.
func inside(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", script)
	cmd.Dir = dir
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 65536}}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, Credential: &syscall.Credential{}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("inside: %v: %s", err, out)
	}
	return string(out)
}

func (p place) withIDs() place {
	p.target.IDs = container()
	return p
}

// reachable lets the ids of a user namespace get at a mount, as a container does by having it as its root.
func (p place) reachable(t *testing.T) {
	t.Helper()
	for dir := filepath.Dir(p.target.Dir); dir != "/" && dir != "/tmp"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFilesHaveTheIDsOfTheUserNamespace(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		lower := owned(t)
		p := newPlace(t, d).withIDs()
		a := p.mount(t, spec(2, nil), lowers(lower, packed(t, "erofs")))
		p.reachable(t)
		in := func(name string) string { return filepath.Join(p.target.Dir, name) }
		wantOwner(t, p.target.Dir, first, first, 0o751)
		wantOwner(t, in("of-root"), first, first, 0o644)
		wantOwner(t, in("of-user"), first+1000, first+100, 0o640)
		wantOwner(t, in("of-nobody"), 65534, 65534, 0o644)
		wantOwner(t, in("suid"), first, first, 0o755|unix.S_ISUID)

		got := inside(t, p.target.Dir, `echo more >>of-user; echo more >>hello; echo new >new; chown 7:8 new; mkdir made; rm of-root; mv dir moved; cat of-user hello; stat -c '%n %u:%g' . of-user new made moved/deep/file`)
		if want := "usermore\nhello, world\nmore\n. 0:0\nof-user 1000:100\nnew 7:8\nmade 0:0\nmoved/deep/file 0:0\n"; got != want {
			t.Errorf("inside: %q, want %q", got, want)
		}
		for _, dir := range []string{p.target.Dir, a.Upperdir} { // copied up, a file keeps its owner
			wantOwner(t, filepath.Join(dir, "of-user"), first+1000, first+100, 0o640)
			wantOwner(t, filepath.Join(dir, "new"), first+7, first+8, 0o644)
			wantOwner(t, filepath.Join(dir, "made"), first, first, 0o755)
		}
		wantOwner(t, filepath.Join(lower, "of-user"), 1000, 100, 0o640)
		p.unmount(t)
	})
}

func TestKeptUpperOfOtherIDsIsRefused(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		up, lower := t.TempDir(), owned(t)
		plain := newPlace(t, d)
		plain.mount(t, spec(1, &models.OverlayUpper{Path: up}), lowers(lower))
		plain.unmount(t)
		p := newPlace(t, d).withIDs()
		_, err := d.Mount(t.Context(), 1, spec(1, &models.OverlayUpper{Path: up}), lowers(lower), p.target)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "ids of this user namespace") {
			t.Errorf("got %v, want invalid", err)
		}
		if err := os.RemoveAll(filepath.Join(up, "upper")); err != nil {
			t.Fatal(err)
		}
		for range 2 { // its own it may have again
			p.mount(t, spec(1, &models.OverlayUpper{Path: up}), lowers(lower))
			wantOwner(t, p.target.Dir, first, first, 0o751)
			p.unmount(t)
		}
	})
}

func TestLowerThatCannotHaveOtherIDs(t *testing.T) {
	both(t, func(t *testing.T, d mount.Driver) {
		under := newPlace(t, d)
		under.mount(t, spec(1, nil), lowers(owned(t)))
		p := newPlace(t, d).withIDs()
		_, err := d.Mount(t.Context(), 1, spec(1, nil), lowers(under.target.Dir), p.target)
		if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "overlay") || fault.HintOf(err) == "" {
			t.Errorf("got %v (%s), want unsupported", err, fault.HintOf(err))
		}
		if _, err := os.Lstat(p.target.Scratch); err == nil {
			t.Error("the scratch directory is left")
		}
		under.unmount(t)
	})
}
