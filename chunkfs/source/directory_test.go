package source_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestDirectoryGivesWhatIsThere(t *testing.T) {
	dir := makeTree(t)
	var order, skipped []string
	src := open(t, dir, source.Options{Skipped: func(path, what string) { skipped = append(skipped, path+": "+what) }})
	check(t, src.Walk(t.Context(), func(i source.Item) error {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(dir, i.Path), &st))
		n := i.Node
		if n.Mode != st.Mode || n.UID != st.Uid || n.GID != st.Gid || n.Rdev != st.Rdev || n.ModTime.UnixNano() != st.Mtim.Nano() || n.Mode&unix.S_IFMT == unix.S_IFREG && n.Size != st.Size {
			t.Errorf("%q is %+v, and stat says %+v", i.Path, n, st)
		}
		order = append(order, i.Path)
		return nil
	}))
	if order[0] != "." || len(order) != len(read(t, openDir(t, dir))) {
		t.Errorf("there are %d paths, the first is %q", len(order), order[0])
	}
	if fmt.Sprint(skipped) != `[bytes: extended attribute "trusted.overlay.opaque": it steers overlayfs]` {
		t.Errorf("left out: %q", skipped)
	}
	got := read(t, openDir(t, dir))
	for path, want := range map[string]string{
		"bin/ping": fmt.Sprintf("security.capability=%x", capability), "link": "trusted.link=", "small": "user.empty= user.one=31",
		"etc/passwd": fmt.Sprintf("system.posix_acl_access=%x", acl(54321, 4294967290)), "tmp": "system.posix_acl_default=",
		"bytes/big-too": `is "a-first-name-of-big"`, "sparse": "size 41943040",
	} {
		if !strings.Contains(got[path], want) {
			t.Errorf("%s is %s, without %q", path, got[path], want)
		}
	}
}

func TestNamesAreSortedByBytes(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"b", "a/z", "a/", "a.x", "B", "\xff", "é", "aa"} {
		if d, ok := strings.CutSuffix(n, "/"); ok {
			check(t, os.MkdirAll(filepath.Join(dir, d), 0o755))
			continue
		}
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, n)), 0o755))
		check(t, os.WriteFile(filepath.Join(dir, n), nil, 0o600))
	}
	var got []string
	check(t, openDir(t, dir).Walk(t.Context(), func(i source.Item) error { got = append(got, i.Path); return nil }))
	if want := []string{".", "B", "a", "a/z", "a.x", "aa", "b", "é", "\xff"}; fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// mount mounts something until the test ends.
func mount(t *testing.T, from, at, fs string, flags uintptr) {
	t.Helper()
	check(t, unix.Mount(from, at, fs, flags, ""))
	t.Cleanup(func() { check(t, unix.Unmount(at, unix.MNT_DETACH)) })
}

func TestWhatIsMountedBelow(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, n := range []string{"tmp", "bind"} {
		check(t, os.Mkdir(filepath.Join(dir, n), 0o755))
	}
	check(t, os.WriteFile(filepath.Join(dir, "file"), []byte("below"), 0o600))
	check(t, os.WriteFile(filepath.Join(other, "inside"), []byte("mounted"), 0o600))
	mount(t, "tmpfs", filepath.Join(dir, "tmp"), "tmpfs", 0)
	check(t, os.WriteFile(filepath.Join(dir, "tmp/inside"), []byte("mounted"), 0o600))
	mount(t, other, filepath.Join(dir, "bind"), "", unix.MS_BIND) // the same file system
	mount(t, filepath.Join(other, "inside"), filepath.Join(dir, "file"), "", unix.MS_BIND)
	data := map[string]string{hashOf("mounted"): "mounted"}
	var skipped int
	got := shape(read(t, open(t, dir, source.Options{Skipped: func(string, string) { skipped++ }})), data)
	if want := map[string]string{".": "dir", "tmp": "dir", "bind": "dir", "file": ""}; fmt.Sprint(got) != fmt.Sprint(want) || skipped != 3 {
		t.Errorf("got %v, want %v; %d were left out", got, want, skipped)
	}
	got = shape(read(t, open(t, dir, source.Options{CrossMounts: true})), data)
	want := map[string]string{".": "dir", "tmp": "dir", "tmp/inside": "mounted", "bind": "dir", "bind/inside": "mounted", "file": "mounted"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("across mounts: got %v, want %v", got, want)
	}
	mount(t, "tmpfs", other, "tmpfs", 0) // the argument itself may be one
	check(t, os.WriteFile(filepath.Join(other, "x"), nil, 0o600))
	if got := read(t, openDir(t, other)); len(got) != 2 {
		t.Errorf("of a mount that is named: %v", got)
	}
}

// TestFilesThatChange changes a file at every time there is: it is never read as something that it was at no time.
func TestFilesThatChange(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	check(t, os.WriteFile(secret, noise(1<<20), 0o600))
	changes := map[string]func(p string) error{
		"appended to": func(p string) error {
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			check(t, err)
			defer f.Close()
			_, err = f.WriteString("more")
			return err
		},
		"truncated":       func(p string) error { return os.Truncate(p, 10) },
		"overwritten":     func(p string) error { return overwrite(p) },
		"given away":      func(p string) error { return os.Chown(p, 1, 1) },
		"a link now":      func(p string) error { return swap(p, func() error { return os.Symlink(secret, p) }) },
		"another file":    func(p string) error { return swap(p, func() error { return os.WriteFile(p, noise(1<<20), 0o600) }) },
		"a fifo now":      func(p string) error { return swap(p, func() error { return unix.Mkfifo(p, 0o600) }) },
		"gone":            os.Remove,
		"a directory now": func(p string) error { return swap(p, func() error { return os.Mkdir(p, 0o700) }) },
	}
	for name, change := range changes {
		for _, when := range []string{"before", "within", "after"} {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			check(t, os.WriteFile(path, noise(1<<20), 0o600))
			var item source.Item
			check(t, openDir(t, dir).Walk(t.Context(), func(i source.Item) error { item = i; return nil }))
			at := func(w string) {
				if w == when {
					check(t, change(path))
				}
			}
			err := func() error {
				at("before")
				c, err := item.Open()
				if err != nil {
					return err
				}
				_, err = io.CopyN(io.Discard, c, 1000)
				at("within")
				if err == nil {
					_, err = io.Copy(io.Discard, c)
				}
				at("after")
				if cerr := c.Close(); err == nil {
					err = cerr
				}
				return err
			}()
			if when != "before" && (name == "gone" || strings.HasSuffix(name, "now") || name == "another file") {
				if err != nil && !fault.Is(err, fault.BadState) {
					t.Errorf("%s, %s it was read: %v", name, when, err)
				}
				continue // what was opened is still there as it was
			}
			if !fault.Is(err, fault.BadState) || !strings.Contains(err.Error(), `"file" changed while it was read`) || fault.HintOf(err) == "" {
				t.Errorf("%s, %s it was read: %v", name, when, err)
			}
		}
	}
}

func overwrite(p string) error {
	f, err := os.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte("other"), 500_000)
	return err
}

func swap(p string, make func() error) error {
	if err := os.Remove(p); err != nil {
		return err
	}
	return make()
}

// TestRacersDoNotLeadOut has somebody exchange a directory for a link to another one, over and over, while the tree is read.
func TestRacersDoNotLeadOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	in := func(p string) string { return filepath.Join(dir, p) }
	check(t, os.MkdirAll(in("d/e"), 0o755))
	check(t, os.WriteFile(in("d/e/f"), []byte("public"), 0o600))
	check(t, os.MkdirAll(filepath.Join(outside, "e"), 0o755))
	check(t, os.WriteFile(filepath.Join(outside, "e/f"), []byte("secret, and longer"), 0o600))
	check(t, os.WriteFile(filepath.Join(outside, "only-here"), []byte("secret"), 0o600))
	check(t, os.Symlink(outside, in("evil")))
	ctx, cancel := context.WithCancel(t.Context())
	swaps := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			_ = unix.Renameat2(unix.AT_FDCWD, in("d"), unix.AT_FDCWD, in("evil"), unix.RENAME_EXCHANGE)
		}
		swaps <- n
	}()
	src, seen := openDir(t, dir), 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		_ = src.Walk(t.Context(), func(i source.Item) error {
			if strings.Contains(i.Path, "only-here") || i.Node.Size > 6 {
				t.Errorf("it read %q, which is outside", i.Path)
			}
			if i.Open == nil {
				return nil
			}
			c, err := i.Open()
			if err != nil {
				return nil //nolint:nilerr // it was led astray and has noticed
			}
			b, err := io.ReadAll(c)
			if seen++; err == nil && !bytes.Equal(b, []byte("public")) {
				t.Errorf("%q holds %q", i.Path, b)
			}
			return c.Close()
		})
	}
	cancel()
	if n := <-swaps; n < 100 || seen < 10 {
		t.Errorf("there were %d exchanges and %d reads only", n, seen)
	}
}

func TestWhatIsNoSource(t *testing.T) {
	dir := t.TempDir()
	p := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, b []byte) { check(t, os.WriteFile(p(name), b, 0o600)) }
	write("text", []byte("<html>no</html>"))
	write("page.tar.gz", compress(t, "gzip", []byte("<html>no</html>")))
	write("empty", nil)
	write("qcow2", append([]byte("QFI\xfb"), make([]byte, 4096)...))
	check(t, unix.Mkfifo(p("fifo"), 0o600))
	for name, c := range map[string]struct {
		kind fault.Kind
		o    source.Options
		in   string
		hint bool
	}{
		"text":        {kind: fault.Unsupported, in: "nothing that is known", hint: true},
		"empty":       {kind: fault.Unsupported, hint: true},
		"qcow2":       {kind: fault.Unsupported, in: "a qcow2 disk", hint: true},
		"page.tar.gz": {kind: fault.Unsupported, in: "not a tar", hint: true},
		"fifo":        {kind: fault.Invalid, in: "not a file", hint: true},
		"gone":        {kind: fault.NotFound, in: "no such file"},
		"text/below":  {kind: fault.Invalid},
		".":           {kind: fault.NotFound, o: source.Options{Kind: source.KindOCI}, in: "manifest.json"},
		"":            {kind: fault.Invalid, o: source.Options{Kind: "zip"}, in: "directory tar squashfs oci docker"},
	} {
		src, err := source.Open(t.Context(), p(name), c.o)
		if err == nil {
			_, err = tryRead(t, src)
			check(t, src.Close())
		}
		if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.in) || (fault.HintOf(err) != "") != c.hint {
			t.Errorf("%q: %s: %v (hint %q)", name, fault.KindOf(err), err, fault.HintOf(err))
		}
	}
	if _, err := source.Open(t.Context(), source.Stdin, source.Options{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no standard input: %v", err)
	}
	if _, err := source.Open(t.Context(), source.Stdin, source.Options{Stdin: &bytes.Buffer{}, Kind: source.KindSquashfs}); !fault.Is(err, fault.Invalid) {
		t.Errorf("a squashfs on standard input: %v", err)
	}
}

func TestKindsThatAreForced(t *testing.T) {
	layout := layersOf(t, []entry{reg("a", "1")})
	if got := read(t, open(t, layout, source.Options{Kind: source.KindDirectory})); got["oci-layout"] == "" {
		t.Errorf("a layout as a directory holds %v", got)
	}
	file := filepath.Join(t.TempDir(), "layout.tar")
	run(t, layout, "tar", "-cf", file, ".")
	if got := read(t, open(t, file, source.Options{Kind: source.KindTar})); got["oci-layout"] == "" {
		t.Errorf("a layout as a tar holds %v", got)
	}
	for name, entries := range map[string][]entry{
		"like an image":  {reg("blobs/a", "1"), reg("b", "2")},
		"like docker's":  {reg(strings.Repeat("a", 64)+"/x", "1"), reg("b", "2")},
		"like an index":  {reg("index.json", "1"), reg("b", "2")},
		"empty":          {},
		"of a root only": {dir(".")},
	} {
		for _, codec := range []string{"", "gzip"} {
			check(t, os.WriteFile(file, compress(t, codec, pack(t, entries...)), 0o600))
			if got := read(t, open(t, file, source.Options{})); len(got) != len(entries) {
				t.Errorf("a tar %s (%s) holds %v", name, codec, got)
			}
		}
	}
}
