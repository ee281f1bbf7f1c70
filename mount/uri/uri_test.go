package uri_test

import (
	"bytes"
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
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fetch"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/step"
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

func TestBadFiles(t *testing.T) {
	dir := tree(t)
	im := images(t, dir)
	work := t.TempDir()
	sh(t, `cd "$1"; gzip -kc "$2" > sq.gz; truncate -s 4M big; tar -czf bomb.tar.gz big
mkdir many; (cd many; touch {1..8300}); tar -czf many.tar.gz many; truncate -s 1M ext; mkfs.ext4 -q ext`, work, im["squashfs"])
	squash := must(t, im["squashfs"])
	broken := bytes.Clone(squash)
	copy(broken[8:96], bytes.Repeat([]byte{0xff}, 88))
	tarball := must(t, im["tar.zst"])
	wrong := "sha256:" + strings.Repeat("0", 64)
	base := files(t, map[string][]byte{
		"html": []byte("\n<!DOCTYPE html><html>Sign in</html>"), "json": []byte(`{"error":"no"}`), "empty": nil, "elf": append([]byte("\x7fELF"), make([]byte, 5000)...),
		"zeros": make([]byte, 100000), "rubbish": bytes.Repeat([]byte("rubbish"), 1000), "iso": append(append(make([]byte, 32769), "CD001"...), make([]byte, 100)...),
		"sq.gz": must(t, work+"/sq.gz"), "ext": must(t, work+"/ext"), "sq": squash, "broken": broken, "cut": squash[:len(squash)/2], "zst": tarball, "zstcut": tarball[:len(tarball)/2],
		"bomb": must(t, work+"/bomb.tar.gz"), "many": must(t, work+"/many.tar.gz"), "lfs": []byte("version https://git-lfs.github.com/spec/v1\n"),
	})
	for name, tc := range map[string]struct {
		file, digest, format string
		size                 int64
		kind                 fault.Kind
		want                 string
	}{
		"html":               {file: "html", kind: fault.Corrupt, want: "<!DOCTYPE html>"},
		"html, not squashfs": {file: "html", format: "squashfs", kind: fault.Corrupt, want: "not a squashfs image: it looks like an HTML page, begins with"},
		"json":               {file: "json", kind: fault.Corrupt, want: "a JSON document"},
		"empty":              {file: "empty", kind: fault.Corrupt, want: "an empty file"},
		"empty tar":          {file: "empty", format: "tar", kind: fault.Corrupt, want: "an empty file"},
		"elf":                {file: "elf", kind: fault.Corrupt, want: "an ELF program"},
		"iso":                {file: "iso", format: "erofs", kind: fault.Corrupt, want: "an ISO 9660 image"},
		"ext4":               {file: "ext", kind: fault.Corrupt, want: "ext4"},
		"zeros":              {file: "zeros", kind: fault.Corrupt, want: "nothing but zeros"},
		"zeros as tar":       {file: "zeros", format: "tar", kind: fault.Corrupt, want: "nothing but zeros"},
		"lfs":                {file: "lfs", kind: fault.Corrupt, want: "Git LFS pointer"},
		"rubbish":            {file: "rubbish", kind: fault.Corrupt, want: `begins with "rubbishr`},
		"rubbish as tar":     {file: "rubbish", format: "tar", kind: fault.Corrupt, want: "the archive is damaged after the first entry"},
		"squashfs as erofs":  {file: "sq", format: "erofs", kind: fault.Corrupt, want: "not an erofs image: it looks like a squashfs image"},
		"squashfs as tar":    {file: "sq", format: "tar", kind: fault.Corrupt, want: "not a tar archive: it looks like a squashfs image"},
		"squashfs in gzip":   {file: "sq.gz", kind: fault.Corrupt, want: "inside is not a tar archive but looks like a squashfs image"},
		"broken squashfs":    {file: "broken", kind: fault.Corrupt, want: "mount what was read from http://"},
		"cut squashfs":       {file: "cut", kind: fault.Corrupt, want: "mount squashfs"},
		"wrong digest":       {file: "sq", digest: wrong, kind: fault.Corrupt, want: "not " + wrong + " as asked"},
		"wrong digest, tar":  {file: "zst", digest: wrong, kind: fault.Corrupt, want: "not " + wrong + " as asked"},
		"cut tar":            {file: "zstcut", kind: fault.Corrupt, want: "cut off"},
		"cut tar, digest":    {file: "zstcut", digest: wrong, kind: fault.Corrupt, want: "not " + wrong + " as asked"},
		"too large image":    {file: "sq", size: 65536, kind: fault.TooLarge, want: "the limit is 65536"},
		"too large tar":      {file: "zst", size: 65536, kind: fault.TooLarge, want: "takes more than the 65536 bytes"},
		"too many files":     {file: "many", size: 65536, kind: fault.TooLarge, want: "has more files than the"},
		"missing":            {file: "none", kind: fault.NotFound, want: "404"},
	} {
		t.Run(name, func(t *testing.T) {
			tg := target(t)
			sp := spec(base + tc.file)
			sp.URI.Digest, sp.URI.Size = tc.digest, tc.size
			if tc.format != "" {
				sp.URI.Format = &tc.format
			}
			_, err := driver().Mount(t.Context(), 8, sp, nil, tg)
			if !fault.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v (%s, hint %q), want %s with %q", err, fault.KindOf(err), fault.HintOf(err), tc.kind, tc.want)
			}
			if tc.kind == fault.TooLarge && !strings.Contains(fault.HintOf(err), "size") {
				t.Errorf("the hint is %q", fault.HintOf(err))
			}
		})
	}
	t.Run("holes are no bomb", func(t *testing.T) {
		tg := target(t)
		sp := spec(base + "bomb")
		sp.URI.Size = 65536
		a, err := driver().Mount(t.Context(), 9, sp, nil, tg)
		if err != nil {
			t.Fatal(err)
		}
		if err := driver().Unmount(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
	})
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

// drip serves the beginning of data and then waits; begun is closed when the beginning is sent.
func drip(t testing.TB, data []byte) (u string, begun chan struct{}) {
	t.Helper()
	begun = make(chan struct{})
	var once sync.Once
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		once.Do(func() { close(begun) })
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	return s.URL, begun
}

func TestCancelInTheMiddle(t *testing.T) {
	im := images(t, tree(t))
	patient := uri.New(uri.Config{Instance: instance})
	for _, name := range []string{"squashfs", "tar", "tar.gz", "tar.zst", "tar.xz"} {
		t.Run(name, func(t *testing.T) {
			tg := target(t)
			u, begun := drip(t, must(t, im[name]))
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-begun; cancel() }()
			before := openFiles(t)
			start := time.Now()
			if _, err := patient.Mount(ctx, 5, spec(u), nil, tg); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("it took %v", d)
			}
			if after := openFiles(t); after > before+1 { // the server's end of the connection goes a moment later
				t.Errorf("%d descriptors before, %d after", before, after)
			}
			if _, st, err := patient.Probe(t.Context(), 5, spec(u), tg); st != mount.Gone || err != nil {
				t.Errorf("probe: %v %v", st, err)
			}
		})
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestChangesOnce: the file is another one after the connection broke; the whole is read anew and is right.
func TestChangesOnce(t *testing.T) {
	im := images(t, tree(t))
	for _, name := range []string{"squashfs", "tar.zst"} {
		data := must(t, im[name])
		n := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n++
			w.Header().Set("Etag", fmt.Sprintf(`"%d"`, min(n, 2)))
			if n == 1 {
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				_, _ = w.Write(data[:len(data)/2])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "x", time.Time{}, bytes.NewReader(data))
		}))
		t.Cleanup(s.Close)
		tg := target(t)
		sp := spec(s.URL)
		sp.URI.Digest = digestOf(t, im[name])
		a, err := driver().Mount(t.Context(), 3, sp, nil, tg)
		if err != nil {
			t.Fatal(name, err)
		}
		if err := driver().Unmount(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
	}
}

// recorder keeps what a user sees in the timeline.
type recorder struct {
	mu     sync.Mutex
	stages []string
	bytes  map[string][2]int64
}

func (r *recorder) Begin(stage string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stages = append(r.stages, stage)
	return len(r.stages) - 1
}
func (r *recorder) Progress(token int, bytes, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes[r.stages[token]] = [2]int64{bytes, total}
}
func (r *recorder) End(int, error, string) {}

func TestTimeline(t *testing.T) {
	im := images(t, tree(t))
	for name, stage := range map[string]string{"squashfs": "uri.download", "tar.xz": "uri.unpack"} {
		rec := &recorder{bytes: map[string][2]int64{}}
		tg := target(t)
		data := must(t, im[name])
		a, err := driver().Mount(step.With(t.Context(), rec), 3, spec(files(t, map[string][]byte{"f": data})+"f"), nil, tg)
		if err != nil {
			t.Fatal(err)
		}
		if err := driver().Unmount(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
		if n := int64(len(data)); rec.bytes[stage] != [2]int64{n, n} {
			t.Errorf("%s: progress %v of steps %v, want all %d bytes in %s", name, rec.bytes, rec.stages, n, stage)
		}
	}
}

// TestGoroutines: nothing runs on after a hundred downloads, most of which fail.
func TestGoroutines(t *testing.T) {
	im := images(t, tree(t))
	data := must(t, im["tar.zst"])
	base := files(t, map[string][]byte{"whole": data, "cut": data[:len(data)/2]})
	run := func() {
		tg := target(t)
		if _, err := driver().Mount(t.Context(), 3, spec(base+"cut"), nil, tg); err == nil {
			t.Fatal("half an archive was mounted")
		}
		a, err := driver().Mount(t.Context(), 3, spec(base+"whole"), nil, tg)
		if err != nil {
			t.Fatal(err)
		}
		if err := driver().Unmount(t.Context(), a, false); err != nil {
			t.Fatal(err)
		}
	}
	run()
	before := runtime.NumGoroutine()
	for range 20 {
		run()
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}
