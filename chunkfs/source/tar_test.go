package source_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// tarOf makes a source of entries.
func tarOf(t testing.TB, entries ...entry) source.Source {
	t.Helper()
	return stdin(t, pack(t, entries...))
}

func stdin(t testing.TB, b []byte) source.Source {
	t.Helper()
	return open(t, source.Stdin, source.Options{Stdin: bytes.NewReader(b)})
}

func TestEntriesThatComeAgain(t *testing.T) {
	data := map[string]string{hashOf("1"): "1", hashOf("2"): "2", hashOf("3"): "3"}
	for _, c := range []struct {
		name    string
		entries []entry
		want    map[string]string
	}{
		{"a file", []entry{reg("a", "1"), reg("./a", "2")}, map[string]string{"a": "2"}},
		{"a file and its link", []entry{reg("a", "1"), hard("b", "/a"), reg("a", "2")}, map[string]string{"a": "2", "b": "1"}},
		{"a directory", []entry{dir("d/"), reg("d/a", "1"), dir("d")}, map[string]string{"d": "dir", "d/a": "1"}},
		{"a file for a directory", []entry{dir("d"), reg("d/a", "1"), reg("d", "2")}, map[string]string{"d": "2"}},
		{"a directory for a file", []entry{reg("d", "1"), dir("d"), reg("d/a", "2")}, map[string]string{"d": "dir", "d/a": "2"}},
		{"a link to itself that is there", []entry{reg("a", "1"), hard("a", "a")}, map[string]string{"a": "1"}},
		{"a link before its file", []entry{hard("b", "a"), reg("a", "1")}, map[string]string{"a": "1", "b": "as a"}},
		{"a link before its link", []entry{hard("c", "b"), hard("b", "a"), reg("a", "1")}, map[string]string{"a": "1", "b": "as a", "c": "as a"}},
		{"a link before its file that is replaced", []entry{hard("b", "a"), reg("b", "2"), reg("a", "1")}, map[string]string{"a": "1", "b": "2"}},
		{"a link in a directory that is replaced", []entry{hard("d/b", "a"), reg("d", "2"), reg("a", "1")}, map[string]string{"a": "1", "d": "2"}},
		{"a link to a link", []entry{soft("s", "x"), hard("t", "s")}, map[string]string{"s": "as s", "t": "as s"}},
		{"names with slashes and dots", []entry{dir("./"), reg("/a", "1"), reg("x/./y//b", "2")}, map[string]string{".": "dir", "a": "1", "x/y/b": "2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := shape(read(t, tarOf(t, c.entries...)), data)
			for p, what := range c.want {
				if first, ok := strings.CutPrefix(what, "as "); ok && p == first {
					c.want[p] = what
				} else if ok {
					c.want[first] = "as " + first
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got  %v\nwant %v", got, c.want)
			}
		})
	}
}

func TestHostileTars(t *testing.T) {
	huge := reg("a", "1")
	huge.Uid = 1 << 32
	device := entry{Header: tar.Header{Name: "d", Typeflag: tar.TypeChar, Devmajor: 1 << 20}}
	long := soft("a", strings.Repeat("x", 4096))
	for name, entries := range map[string][]entry{
		"out by ..":                {reg("a/../../x", "1")},
		"behind a link":            {soft("a", "/etc"), reg("a/passwd", "1")},
		"behind a link and a link": {dir("d"), soft("d/a", "."), soft("b", "d"), reg("b/a/x", "1")},
		"a link through a link":    {soft("a", "/etc"), hard("x", "a/passwd")},
		"a link out":               {hard("x", "../etc/passwd")},
		"a link to the root":       {hard("x", ".")},
		"a link to a directory":    {dir("d"), hard("x", "d")},
		"a link to what is not":    {hard("x", "y")},
		"links to each other":      {hard("x", "y"), hard("y", "x")},
		"below a file":             {reg("a", "1"), reg("a/b", "1")},
		"below a link":             {hard("a", "b"), reg("a/b", "1"), reg("b", "1")},
		"the root as a file":       {reg(".", "1")},
		"the root as a link":       {soft("./", "/etc")},
		"a long name":              {reg(strings.Repeat("n", 256), "1")},
		"a long path":              {reg(strings.Repeat("n/", 3000)+"x", "1")},
		"a long link":              {long},
		"no owner":                 {huge},
		"no device":                {device},
	} {
		_, err := tryRead(t, tarOf(t, entries...))
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCutOffTars(t *testing.T) {
	whole := pack(t, reg("a", strings.Repeat("1", 5000)), reg("b", "2"))
	for _, codec := range []string{"", "gzip", "zstd"} {
		b := compress(t, codec, whole)
		for n := 1; n < len(b); n += max(1, len(b)/97) {
			if codec == "" && n > len(whole)-512 { // an end mark of one block will do
				break
			}
			if _, err := tryRead(t, stdin(t, b[:n])); !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
				t.Errorf("%d of %d bytes (%s): %v", n, len(b), codec, err)
			}
		}
	}
	if got, err := tryRead(t, stdin(t, whole[:len(whole)-512])); err != nil || len(got) != 2 {
		t.Errorf("one block at the end: %v, %v", got, err)
	}
}

func TestAttributesAsSeveralToolsWriteThem(t *testing.T) {
	e := reg("a", "1")
	e.PAXRecords = map[string]string{
		"SCHILY.xattr.user.plain":              "p",
		"LIBARCHIVE.xattr.user.plain":          base64.RawStdEncoding.EncodeToString([]byte("another")),
		"LIBARCHIVE.xattr.user.with%20blanks":  base64.StdEncoding.EncodeToString([]byte("1")),
		"LIBARCHIVE.xattr.security.capability": base64.RawStdEncoding.EncodeToString(capability),
		"RHT.security.selinux":                 "system_u:object_r:bin_t:s0",
		"SCHILY.acl.access":                    "user::rw-,user:1000:rwx,group::r--,group:4294967290:r-x,mask::rwx,other::r--",
		"SCHILY.acl.default":                   "user::rw-\nuser:someone:rwx:7 # a remark\ngroup::r--\ngroup:8:r-x\nmask::rwx\nother::r--\n",
		"SCHILY.xattr.trusted.overlay.opaque":  "y",
		"SCHILY.xattr.system.nfs4_acl":         "x",
	}
	var skipped []string
	src := open(t, source.Stdin, source.Options{
		Stdin:   bytes.NewReader(pack(t, e)),
		Skipped: func(path, what string) { skipped = append(skipped, path+": "+what) },
	})
	line := read(t, src)["a"]
	want := fmt.Sprintf(" security.capability=%x security.selinux=%x00 system.posix_acl_access=%x system.posix_acl_default=%x user.plain=70 user.with blanks=31 ",
		capability, "system_u:object_r:bin_t:s0", acl(1000, 4294967290), acl(7, 8))
	if !strings.Contains(line, want) {
		t.Errorf("it has %s\nwant  %s", line, want)
	}
	if len(skipped) != 2 || !strings.HasPrefix(skipped[0]+skipped[1], "a: extended attribute") {
		t.Errorf("left out: %q", skipped)
	}
	for text, kind := range map[string]fault.Kind{
		"user::rw-,user:someone:rwx,group::r--,mask::rwx,other::r--": fault.Unsupported,
		"user::rw-,nobody": fault.Corrupt,
		"user::abc":        fault.Corrupt,
		"owner::rw-":       fault.Corrupt,
	} {
		e.PAXRecords = map[string]string{"SCHILY.acl.access": text}
		if _, err := tryRead(t, tarOf(t, e)); !fault.Is(err, kind) {
			t.Errorf("the ACL %q: %v", text, err)
		}
	}
}

func TestACLsOfGNUTar(t *testing.T) {
	dir := makeTree(t)
	file := filepath.Join(t.TempDir(), "tree.tar")
	run(t, dir, "tar", "-cf", file, "--format=posix", "--acls", "--numeric-owner", "etc/passwd", "tmp")
	got, want := read(t, open(t, file, source.Options{})), read(t, openDir(t, dir))
	for _, p := range []string{"etc/passwd", "tmp"} {
		if got[p] != want[p] {
			t.Errorf("%s is\n%s, want\n%s", p, got[p], want[p])
		}
	}
}

// hugeSparse makes a tar of a file of 4 TiB with a little data in it.
func hugeSparse(t *testing.T, args ...string) string {
	t.Helper()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "huge.tar")
	makeSparse(t, filepath.Join(dir, "huge"), 4<<40, 1<<40, 3<<40)
	check(t, os.WriteFile(filepath.Join(dir, "next"), []byte("next"), 0o600))
	run(t, dir, "tar", append(append([]string{"-S", "-cf", file}, args...), "huge", "next")...)
	return file
}

func TestHolesOfATarAreNotRead(t *testing.T) {
	for _, args := range [][]string{{"--format=gnu"}, {"--format=posix"}, {"--format=posix", "--sparse-version=0.1"}, {"--format=posix", "--sparse-version=0.0"}} {
		var runs []string
		next := ""
		check(t, open(t, hugeSparse(t, args...), source.Options{}).Walk(t.Context(), func(i source.Item) error {
			c, err := i.Open()
			if err != nil || i.Path == "next" {
				b, _ := io.ReadAll(c)
				next = string(b)
				return err
			}
			for at := int64(0); ; {
				start, end, err := c.NextData(at)
				if errors.Is(err, io.EOF) {
					return c.Close()
				}
				if err != nil {
					return err
				}
				b := make([]byte, 8192)
				if _, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, noise(8192)) {
					return fmt.Errorf("the data at %d is not what it was: %w", start, err)
				}
				runs, at = append(runs, fmt.Sprintf("%d+%d", start>>30, end-start)), end
			}
		}))
		if fmt.Sprint(runs) != "[1024+8192 3072+8192]" || next != "next" {
			t.Errorf("%v: runs (GiB+bytes) %v, then %q", args, runs, next)
		}
	}
}

func TestATarWhoseFilesAreNotRead(t *testing.T) {
	dir := makeTree(t)
	want := read(t, openDir(t, dir))
	for _, args := range [][]string{{"--format=gnu", "-S"}, {"--format=posix", "-S"}, {"--format=posix", "-S", "--sparse-version=0.1"}} {
		file := filepath.Join(t.TempDir(), "tree.tar")
		run(t, dir, "tar", append(append([]string{"-cf", file}, args...), ".")...)
		n := 0
		check(t, open(t, file, source.Options{}).Walk(t.Context(), func(i source.Item) error {
			n++
			if i.Open == nil || n%2 == 0 {
				return nil
			}
			c, err := i.Open() // and a part of it
			if err == nil {
				_, err = io.CopyN(io.Discard, c, i.Node.Size/2)
			}
			if _, err := i.Open(); err == nil {
				t.Errorf("%s was opened twice", i.Path)
			}
			return err
		}))
		if n != len(want)-1 {
			t.Errorf("%v: there were %d entries of %d", args, n, len(want)-1)
		}
	}
}

func TestOpenAfterTheVisitFails(t *testing.T) {
	var late source.Item
	var content source.Content
	check(t, tarOf(t, reg("a", "1"), reg("b", "2")).Walk(t.Context(), func(i source.Item) (err error) {
		if late.Open == nil {
			late = i
			content, err = i.Open()
		}
		return err
	}))
	if _, err := content.Read(make([]byte, 1)); !fault.Is(err, fault.BadState) {
		t.Errorf("a read after the visit: %v", err)
	}
}

func TestWalkEnds(t *testing.T) {
	stop := errors.New("enough")
	dir := makeTree(t)
	for name, src := range map[string]source.Source{
		"directory": openDir(t, dir),
		"tar":       tarOf(t, reg("a", "1"), reg("b", "2")),
		"image":     open(t, layersOf(t, []entry{reg("a", "1"), reg("b", "2")}), source.Options{Platform: "linux/amd64"}),
		"squashfs":  open(t, squash(t, dir), source.Options{}),
	} {
		if err := src.Walk(t.Context(), func(source.Item) error { return stop }); err != stop { //nolint:errorlint // it comes as it is
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	cancel()
	for name, src := range map[string]source.Source{
		"directory": openDir(t, dir),
		"tar":       tarOf(t, reg("a", "1"), reg("b", "2")),
		"image":     open(t, layersOf(t, []entry{reg("a", "1"), reg("b", "2")}), source.Options{Platform: "linux/amd64"}),
		"squashfs":  open(t, squash(t, dir), source.Options{}),
	} {
		if err := src.Walk(ctx, func(source.Item) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context: %v", name, err)
		}
	}
}

// FuzzTar reads what may be a tar; it must not panic, nor give what no file system holds.
func FuzzTar(f *testing.F) {
	e := reg("a", "1")
	e.PAXRecords = map[string]string{"SCHILY.acl.access": "user::rw-,user:0:rwx,mask::rwx", "LIBARCHIVE.xattr.user.x": "MQ", "SCHILY.xattr.user.y": "2"}
	f.Add(pack(f, dir("d"), reg("d/a", "1"), hard("b", "d/a"), soft("s", "d"), e))
	f.Add(pack(f, hard("b", "a"), reg("a", "1"), reg("a", "2"), soft("a", "b")))
	for _, p := range []string{"testdata/sparse-gnu.tar", "testdata/sparse-1.0.tar", "testdata/sparse-0.1.tar"} {
		b, err := os.ReadFile(p)
		check(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fixSums(b)
		src, err := source.Tar("fuzz", bytes.NewReader(b), 0, source.Options{})
		check(t, err)
		readBounded(t, src)
	})
}

// fixSums makes the checksums of headers right, so that what is in them is looked at.
func fixSums(b []byte) {
	for ; len(b) >= 512; b = b[512:] {
		if string(b[257:262]) != "ustar" {
			continue
		}
		copy(b[148:156], "        ")
		sum := 0
		for _, c := range b[:512] {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	}
}

// readBounded reads a source as far as a fuzz test can afford, and looks at what it gives.
func readBounded(t *testing.T, src source.Source) {
	t.Helper()
	n := 0
	var later []source.Item
	err := src.Walk(t.Context(), func(i source.Item) error {
		if n++; n > 2000 {
			return io.EOF
		}
		if p := filepath.Clean(i.Path); p != i.Path || strings.HasPrefix(p, "/") || strings.HasPrefix(p, "..") || strings.Contains(p, "\x00") {
			t.Fatalf("a path is %q", i.Path)
		}
		if i.Open == nil {
			return nil
		}
		if later = append(later, i); src.Random() {
			return nil
		}
		return skim(t, i)
	})
	if err == nil && src.Random() {
		for _, i := range later[:min(len(later), 20)] {
			_ = skim(t, i)
		}
	}
}

func skim(t *testing.T, i source.Item) error {
	t.Helper()
	c, err := i.Open()
	if err != nil {
		return err
	}
	defer c.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(c, 1<<20))
	if err == nil && n != min(1<<20, i.Node.Size) {
		t.Fatalf("%q has %d bytes, not %d", i.Path, n, i.Node.Size)
	}
	for at := n; err == nil; n++ {
		if n > 1<<20+100 {
			break
		}
		var start, end int64
		if start, end, err = c.NextData(at); err == nil && (start < at || end <= start || end > i.Node.Size) {
			t.Fatalf("%q of %d bytes has data at %d to %d, asked from %d", i.Path, i.Node.Size, start, end, at)
		}
		at = end
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
