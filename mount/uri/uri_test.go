package uri_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/uri"
	"github.com/windlass-hpc/windlass/swagger/models"
)

const instance = "windlass-uritest"

var quick = fetch.Timing{Stall: 500 * time.Millisecond, Pause: time.Millisecond, Longest: 5 * time.Millisecond, Tries: 3}

func driver() *uri.Driver { return uri.New(uri.Config{Instance: instance, Timing: quick}) }

func sh(t testing.TB, script string, args ...string) string {
	t.Helper()
	out, err := exec.Command("bash", append([]string{"-euc", script, "bash"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// tree makes a small system's tree, with all that a file can have.
func tree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	sh(t, `mkdir -p "$1"/{etc,usr/bin,var/empty,dev}; cd "$1"
echo hello > etc/greeting; head -c 300000 /dev/urandom > usr/bin/tool; ln usr/bin/tool usr/bin/alias; ln -s ../../etc/greeting usr/bin/link; ln -s /nowhere dangling
chmod 4755 usr/bin/tool; chown 12:34 etc/greeting; chmod 0640 etc/greeting; chmod 1777 var/empty; chown 70000:80000 var/empty
mkfifo dev/fifo; mknod dev/null c 1 3; mknod dev/blk b 7 250; truncate -s 3M var/sparse; printf end >> var/sparse
printf x > $'caf\xe9'; touch "$(printf 'l%.0s' {1..200})"; D=deep/$(printf 'd%.0s' {1..60})/$(printf 'e%.0s' {1..60}); mkdir -p $D; echo z > $D/z; : > var/zero
setcap cap_net_raw+ep usr/bin/tool; python3 -c 'import os; os.setxattr("etc/greeting","user.note",b"a\0b")'
find . -depth -print0 | xargs -0 touch -h -d '2021-03-04 05:06:07'; touch -d '2020-01-02 03:04:05' etc/greeting`, dir)
	return dir
}

// describe lists all of a tree as lines that can be compared.
func describe(t testing.TB, root string) string {
	t.Helper()
	var b strings.Builder
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		fmt.Fprintf(&b, "%q %o %d:%d %d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			if first[st.Ino] == "" {
				first[st.Ino] = rel
			}
			fmt.Fprintf(&b, " %d %x links %d %q", st.Size, sha256.Sum256(data), st.Nlink, first[st.Ino])
		case unix.S_IFLNK:
			to, _ := os.Readlink(p)
			fmt.Fprintf(&b, " -> %q", to)
		case unix.S_IFCHR, unix.S_IFBLK:
			fmt.Fprintf(&b, " %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		for _, x := range []string{"user.note", "security.capability"} {
			v := make([]byte, 100)
			if n, err := unix.Lgetxattr(p, x, v); err == nil {
				fmt.Fprintf(&b, " %s=%x", x, v[:n])
			}
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// target is a place for a mount. At the end of the test nothing may be left: no mount, no loop device, no scratch.
func target(t testing.TB) mount.Target {
	t.Helper()
	top := t.TempDir()
	tg := mount.Target{Dir: filepath.Join(top, "m"), Scratch: filepath.Join(top, "scratch")}
	if err := os.Mkdir(tg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if below, err := mountinfo.Below(tg.Dir); err != nil || len(below) > 0 {
			t.Errorf("%d mounts are left, %v", len(below), err)
			_ = unix.Unmount(tg.Dir, unix.MNT_DETACH)
		}
		noLoops(t)
		if _, err := os.Lstat(tg.Scratch); err == nil {
			t.Error("the scratch directory is left")
		}
	})
	return tg
}

// noLoops fails when a loop device of ours is there. Somebody who lists devices may hold one open for a moment.
func noLoops(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		all, err := loopdev.List(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		left := ""
		for _, d := range all {
			if strings.HasPrefix(d.Name, instance+"/") {
				left += " " + d.Path + "=" + d.Name
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("loop devices are left:%s", left)
		}
	}
}

func spec(u string) *models.Mount {
	return &models.Mount{Kind: uri.Kind, URI: &models.MountURI{URI: &u}}
}

func digestOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// images makes every sort of image of a tree.
func images(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := t.TempDir()
	sh(t, `cd "$2"; mksquashfs "$1" a.squashfs -quiet -noappend -comp zstd >/dev/null; mkfs.erofs -x 8 a.erofs "$1" >/dev/null 2>&1
tar -C "$1" --xattrs --xattrs-include='*' --sparse -cf a.tar .; tar -C "$1" --xattrs --xattrs-include='*' -czf a.tar.gz .
zstd -q a.tar -o a.tar.zst; xz -k -T2 a.tar`, dir, out)
	all := map[string]string{}
	for _, n := range []string{"squashfs", "erofs", "tar", "tar.gz", "tar.zst", "tar.xz"} {
		all[n] = filepath.Join(out, "a."+n)
	}
	return all
}

func TestEveryFormat(t *testing.T) {
	dir := tree(t)
	want := describe(t, dir)
	if strings.Count(want, "user.note") != 1 || strings.Count(want, "security.capability") != 2 {
		t.Fatalf("the tree has not what is to be tested:\n%s", want)
	}
	for name, path := range images(t, dir) {
		s := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(path))))
		t.Cleanup(s.Close)
		for _, u := range []string{s.URL + "/" + filepath.Base(path), "file://" + path} {
			t.Run(name+" "+u[:4], func(t *testing.T) {
				tg := target(t)
				sp := spec(u)
				sp.URI.Digest = digestOf(t, path)
				d := driver()
				a, err := d.Mount(t.Context(), 7, sp, nil, tg)
				if err != nil {
					t.Fatal(err, fault.HintOf(err))
				}
				if got := describe(t, tg.Dir); got != want {
					t.Errorf("the trees differ:\n%s\n--- want\n%s", got, want)
				}
				checkActive(t, d, sp, tg, a, !strings.HasPrefix(name, "tar"))
				for range 2 {
					if err := d.Unmount(t.Context(), mount.Active{ID: 7, Target: tg}, false); err != nil {
						t.Fatal(err)
					}
				}
				if _, st, err := d.Probe(t.Context(), 7, sp, tg); st != mount.Gone || err != nil {
					t.Errorf("probe after unmount: %v %v", st, err)
				}
			})
		}
	}
}

func checkActive(t *testing.T, d *uri.Driver, sp *models.Mount, tg mount.Target, a mount.Active, readOnly bool) {
	t.Helper()
	id, err := mountinfo.ID(tg.Dir)
	if err != nil || a.MountID != id || a.ReadOnly != readOnly || a.ID != 7 || a.Target != tg {
		t.Errorf("active is %+v, mount id %d, %v", a, id, err)
	}
	if p, st, err := d.Probe(t.Context(), 7, sp, tg); st != mount.Ready || p != a || err != nil {
		t.Errorf("probe: %+v %v %v, want %+v", p, st, err, a)
	}
	info, err := mountinfo.ByID(id)
	if err != nil || info == nil || !strings.Contains(info.Options, "nodev") || strings.Contains(info.Options, "ro") != readOnly {
		t.Errorf("mounted as %+v, %v", info, err)
	}
	if _, err := os.Open(filepath.Join(tg.Dir, "dev/null")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a device of the image can be opened: %v", err)
	}
	f, err := os.Open(filepath.Join(tg.Dir, "etc/greeting"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unmount(t.Context(), a, true); !fault.Is(err, fault.Busy) {
		t.Errorf("unmount in use: %v", err)
	}
	f.Close()
}

// files serves bytes by name.
func files(t testing.TB, m map[string][]byte) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := m[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/"
}

func must(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValidate(t *testing.T) {
	d := driver()
	str := func(s string) *string { return &s }
	for name, sp := range map[string]*models.Mount{
		"nil": nil, "no part": {}, "no uri": {URI: &models.MountURI{}}, "empty": spec(""), "scheme": spec("ftp://h/x"), "relative": spec("file:x"),
		"no host": spec("http:///x"), "secret": spec("http://a:s3cret/@b/"),
		"digest": {URI: &models.MountURI{URI: str("http://h/x"), Digest: "md5:1"}},
		"size":   {URI: &models.MountURI{URI: str("http://h/x"), Size: 5}},
		"minus":  {URI: &models.MountURI{URI: str("http://h/x"), Size: -5}},
		"format": {URI: &models.MountURI{URI: str("http://h/x"), Format: str("zip")}},
	} {
		if err := d.Validate(sp); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "uri") || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.Validate(spec("https://user:pw@host/x?y=z")); err != nil {
		t.Error(err)
	}
}
