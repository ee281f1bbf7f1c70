package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/unpack"
)

// entry is a header and its content.
type entry struct {
	tar.Header
	body string
}

func reg(name, body string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body}
}

func dir(name string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}}
}
func link(kind byte, name, to string) entry {
	return entry{Header: tar.Header{Name: name, Typeflag: kind, Linkname: to, Mode: 0o777}}
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// into unpacks into root below a directory that must stay as it is.
func into(ctx context.Context, t testing.TB, root string, data []byte, o unpack.Options) (unpack.Report, error) {
	t.Helper()
	d, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	return unpack.Tar(ctx, d, bytes.NewReader(data), o)
}

// jail makes DIR/root to unpack into, beside DIR/outside, and fails the test when anything but root changed.
func jail(t testing.TB) (root string) {
	t.Helper()
	top := t.TempDir()
	root = filepath.Join(top, "root")
	for _, d := range []string{root, filepath.Join(top, "outside")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(top, "outside", "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b, err := os.ReadFile(secret)
		if err != nil || string(b) != "secret" {
			t.Errorf("outside was changed: %q %v", b, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(secret, &st); err != nil || st.Nlink != 1 || st.Mode&0o777 != 0o600 {
			t.Errorf("outside was changed: %d links, mode %o, %v", st.Nlink, st.Mode, err)
		}
		for _, d := range []string{top, filepath.Join(top, "outside")} {
			if got, _ := os.ReadDir(d); len(got) != map[string]int{top: 2}[d] && len(got) != 1 {
				t.Errorf("%s holds %v", d, got)
			}
		}
	})
	return root
}

func TestHostileNames(t *testing.T) {
	for name, tc := range map[string]struct {
		entries []entry
		want    string // in the error; "": it is unpacked
		exists  string // then this is there
	}{
		"dotdot":                  {[]entry{reg("../outside/x", "x")}, `".."`, ""},
		"dotdot inside":           {[]entry{dir("a"), reg("a/../../outside/x", "x")}, `".."`, ""},
		"dotdot alone":            {[]entry{dir("..")}, `".."`, ""},
		"absolute":                {[]entry{reg("/etc/x", "x")}, "", "etc/x"},
		"dots and slashes":        {[]entry{reg(".//a/./b", "x")}, "", "a/b"},
		"link, then through it":   {[]entry{link(tar.TypeSymlink, "a", "../outside"), reg("a/x", "x")}, "behind a symbolic link", ""},
		"absolute link, through":  {[]entry{link(tar.TypeSymlink, "a", "/"), reg("a/tmp/x", "x")}, "behind a symbolic link", ""},
		"two links, through":      {[]entry{link(tar.TypeSymlink, "a", "."), link(tar.TypeSymlink, "b", "a/.."), reg("b/x", "x")}, "behind a symbolic link", ""},
		"link, then file on it":   {[]entry{link(tar.TypeSymlink, "a", "../outside/secret"), reg("a", "x")}, "", "a"},
		"link, then dir on it":    {[]entry{link(tar.TypeSymlink, "a", "../outside"), dir("a"), reg("a/x", "x")}, "", "a/x"},
		"link, then device on it": {[]entry{link(tar.TypeSymlink, "a", "../outside/secret"), {Header: tar.Header{Name: "a", Typeflag: tar.TypeFifo, Mode: 0o777}}}, "", "a"},
		"hard link outside":       {[]entry{link(tar.TypeLink, "a", "../outside/secret")}, `".."`, ""},
		"hard link absolute":      {[]entry{link(tar.TypeLink, "a", "/etc/passwd")}, "not in the archive", ""},
		"hard link through link":  {[]entry{link(tar.TypeSymlink, "l", "../outside"), link(tar.TypeLink, "a", "l/secret")}, "behind a symbolic link", ""},
		"hard link to a link":     {[]entry{link(tar.TypeSymlink, "l", "../outside/secret"), link(tar.TypeLink, "a", "l"), reg("a", "x")}, "", "a"},
		"hard link to dir":        {[]entry{dir("d"), link(tar.TypeLink, "a", "d")}, "hard link to a directory", ""},
		"hard link to nothing":    {[]entry{link(tar.TypeLink, "a", "none")}, "not in the archive", ""},
		"hard link to itself":     {[]entry{reg("a", "x"), link(tar.TypeLink, "a", "a")}, "", "a"},
		"file as directory":       {[]entry{reg("a", "x"), reg("a/b", "x")}, "is not a directory", ""},
		"replaces the root":       {[]entry{reg(".", "x")}, "no name", ""},
		"link replaces the root":  {[]entry{link(tar.TypeSymlink, "./", "../outside")}, "no name", ""},
		"name too long":           {[]entry{reg(strings.Repeat("n", 256), "x")}, "name too long", ""},
		"path too long":           {[]entry{reg(strings.Repeat("n/", 3000)+"x", "x")}, "name too long", ""},
		"link too long":           {[]entry{link(tar.TypeSymlink, "a", strings.Repeat("n/", 3000))}, "name too long", ""},
		"not UTF-8":               {[]entry{{tar.Header{Name: "caf\xe9", Typeflag: tar.TypeReg, Format: tar.FormatGNU}, ""}}, "", "caf\xe9"},
		"whiteout is a file":      {[]entry{reg("a", "x"), reg(".wh.a", "")}, "", "a"},
		"unknown type":            {[]entry{{Header: tar.Header{Name: "v", Typeflag: 'V'}}}, "not known", ""},
		"dir replaces tree":       {[]entry{reg("a/b/c", "x"), reg("a/b/d", "x"), reg("a", "x"), reg("a2/b", "x")}, "", "a2/b"},
		"tree goes while in use":  {[]entry{reg("a/b/c", "x"), reg("a", "x"), dir("a"), dir("a/b"), reg("a/b/c", "x")}, "", "a/b/c"},
		"owner -1":                {[]entry{{Header: tar.Header{Name: "a", Typeflag: tar.TypeReg, Uid: 1<<32 - 1}}}, "owner", ""},
		"owner too big":           {[]entry{{Header: tar.Header{Name: "a", Typeflag: tar.TypeReg, Gid: 1 << 40}}}, "owner", ""},
		"device too big":          {[]entry{{Header: tar.Header{Name: "a", Typeflag: tar.TypeChar, Devmajor: 1 << 20}}}, "no device", ""},
		"time beyond time":        {[]entry{{Header: tar.Header{Name: "a", Typeflag: tar.TypeReg, ModTime: time.Unix(1<<40, 0)}}}, "", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			root := jail(t)
			_, err := into(t.Context(), t, root, archive(t, tc.entries...), unpack.Options{})
			if (err != nil) != (tc.want != "") || (err != nil && (!fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), tc.want))) {
				t.Fatalf("got %v (%s), want %q", err, fault.KindOf(err), tc.want)
			}
			if tc.exists != "" {
				if _, err := os.Lstat(filepath.Join(root, tc.exists)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestCutOff(t *testing.T) {
	data := archive(t, dir("d"), reg("d/one", strings.Repeat("x", 1500)), reg("d/two", "y"))
	// dir 512, one 512+1536, two 512+512, end mark 1024
	for cut, want := range map[int]string{
		0: "the first entry", 100: "after the first entry", 512: `after entry "d"`, 700: `after entry "d"`, 1500: `entry "d/one"`,
		2560: `after entry "d/one"`, 3100: `entry "d/two"`, 3584: `after entry "d/two"`, 4000: `after entry "d/two"`,
	} {
		_, err := into(t.Context(), t, t.TempDir(), data[:cut], unpack.Options{})
		if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "cut off") || !strings.Contains(err.Error(), want) {
			t.Errorf("cut at %d: got %v, want %q", cut, err, want)
		}
	}
	if _, err := into(t.Context(), t, t.TempDir(), append(data, data...), unpack.Options{}); err != nil {
		t.Errorf("something after the end: %v", err)
	}
	data[700] ^= 1
	if _, err := into(t.Context(), t, t.TempDir(), data, unpack.Options{}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a flipped bit in a header: %v", err)
	}
}

// TestCompressedCutOff cuts and damages what is compressed.
func TestCompressedCutOff(t *testing.T) {
	dirName := t.TempDir()
	plain := filepath.Join(dirName, "a.tar")
	if err := os.WriteFile(plain, archive(t, reg("a", strings.Repeat("some content ", 50000))), 0o600); err != nil {
		t.Fatal(err)
	}
	for codec, tool := range map[unpack.Codec]string{unpack.Gzip: "gzip", unpack.Zstd: "zstd", unpack.Xz: "xz"} {
		data, err := exec.Command(tool, "-c", plain).Output()
		if err != nil {
			t.Fatal(err)
		}
		try := func(data []byte) error {
			r, err := unpack.Decompress(codec, bytes.NewReader(data))
			if err != nil {
				return err
			}
			defer r.Close()
			d, err := os.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			_, err = unpack.Tar(t.Context(), d, r, unpack.Options{})
			return err
		}
		if err := try(data); err != nil {
			t.Errorf("%s: %v", codec, err)
		}
		if err := try(append(bytes.Clone(data), data...)); err != nil {
			t.Errorf("%s twice: %v", codec, err)
		}
		for _, cut := range []int{3, len(data) / 2, len(data) - 1} {
			if err := try(data[:cut]); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s cut at %d: %v (%s)", codec, cut, err, fault.KindOf(err))
			}
		}
		bad := bytes.Clone(data)
		bad[len(bad)/2] ^= 0x55
		if err := try(bad); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s damaged: %v (%s)", codec, err, fault.KindOf(err))
		}
	}
}

// TestHungryDecoders gives windows that no node should hold.
func TestHungryDecoders(t *testing.T) {
	for codec, cmd := range map[unpack.Codec]string{
		unpack.Zstd: "head -c 300M /dev/zero | zstd -1 --ultra --long=28 --stream-size=314572800",
		unpack.Xz:   "head -c 1M /dev/zero | xz --lzma2=dict=256MiB",
	} {
		data, err := exec.Command("sh", "-c", cmd).Output()
		if err != nil {
			t.Fatal(err)
		}
		r, err := unpack.Decompress(codec, bytes.NewReader(data))
		if err == nil {
			_, err = r.Read(make([]byte, 10))
			r.Close()
		}
		if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "MiB") || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", codec, err)
		}
	}
}

func TestLimits(t *testing.T) {
	big := archive(t, reg("a", strings.Repeat("x", 50000)), reg("a", strings.Repeat("x", 50000)), reg("a", strings.Repeat("x", 50000)))
	if _, err := into(t.Context(), t, t.TempDir(), big, unpack.Options{Limit: 110000}); !fault.Is(err, fault.TooLarge) {
		t.Errorf("content overwritten again and again: %v", err)
	}
	many := make([]entry, 300)
	for i := range many {
		many[i] = reg("same", "")
	}
	if _, err := into(t.Context(), t, t.TempDir(), archive(t, many...), unpack.Options{Limit: 110000}); !fault.Is(err, fault.TooLarge) {
		t.Errorf("an empty file again and again: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := into(ctx, t, t.TempDir(), big, unpack.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

func TestFull(t *testing.T) {
	for options, e := range map[string][]entry{
		"size=64k":            {reg("a/big", strings.Repeat("x", 200_000))},
		"size=1m,nr_inodes=4": {reg("1", ""), reg("2", ""), reg("3", ""), reg("4", ""), reg("5", "")},
	} {
		d := t.TempDir()
		if err := unix.Mount("tmpfs", d, "tmpfs", 0, options); err != nil {
			t.Fatal(err)
		}
		_, err := into(t.Context(), t, d, archive(t, e...), unpack.Options{})
		if uerr := unix.Unmount(d, 0); uerr != nil {
			t.Error(uerr)
		}
		if !errors.Is(err, unix.ENOSPC) || !fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), "entry") {
			t.Errorf("%s: %v (%s)", options, err, fault.KindOf(err))
		}
	}
}

func TestXattrsThatAreNotKept(t *testing.T) {
	root := jail(t)
	e := reg("a", "x")
	e.PAXRecords = map[string]string{
		"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.evm": "x", "SCHILY.xattr.nonsense": "x", "SCHILY.xattr.": "x",
	}
	rep, err := into(t.Context(), t, root, archive(t, e), unpack.Options{})
	if err != nil || rep.SkippedXattrs != 4 {
		t.Errorf("skipped %d, %v", rep.SkippedXattrs, err)
	}
	if n, err := unix.Listxattr(filepath.Join(root, "a"), nil); n != 0 || err != nil {
		t.Errorf("%d bytes of attributes, %v", n, err)
	}
	e.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "rubbish"}
	if _, err := into(t.Context(), t, root, archive(t, e), unpack.Options{}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a capability of rubbish: %v", err)
	}
}

func FuzzTar(f *testing.F) {
	f.Add(archive(f, dir("d"), reg("d/a", "content"), link(tar.TypeSymlink, "l", "../outside"), link(tar.TypeLink, "h", "d/a")))
	f.Add(archive(f, link(tar.TypeSymlink, "a", "/"), reg("a/b", "x")))
	f.Add(archive(f, entry{Header: tar.Header{Name: "c", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}}, dir("."), reg("d", ""), dir("d")))
	f.Fuzz(func(t *testing.T, data []byte) {
		root := jail(t)
		rep, err := into(t.Context(), t, root, data, unpack.Options{Limit: 1 << 20})
		if err != nil && err.Error() == "" {
			t.Fatal("an error without words")
		}
		if rep.Bytes > 1<<20 {
			t.Fatal(fmt.Sprint("beyond the limit: ", rep.Bytes))
		}
	})
}

func FuzzDecompress(f *testing.F) {
	for i, tool := range []string{"gzip", "zstd", "xz"} {
		cmd := exec.Command(tool, "-c")
		cmd.Stdin = strings.NewReader("content content content content")
		b, err := cmd.Output()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), b)
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		codec := []unpack.Codec{unpack.Gzip, unpack.Zstd, unpack.Xz}[which%3]
		r, err := unpack.Decompress(codec, bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		buf := make([]byte, 1<<16)
		for n := 0; n < 64; n++ {
			if _, err := r.Read(buf); err != nil {
				return
			}
		}
	})
}
