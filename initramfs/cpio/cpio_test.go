package cpio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// sample is a tree with all that an initramfs holds.
func sample(t *testing.T) *Tree {
	t.Helper()
	var tree Tree
	for _, err := range []error{
		tree.File("etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\n")),
		tree.Dir("tmp", 0o1777),
		tree.Link("init", "bin/windlass"),
		tree.Device("dev/console", 0o600, 5, 1),
		tree.Add(Entry{Name: "/bin/windlass", Mode: TypeRegular | 0o755, Load: func() ([]byte, error) { return []byte("program"), nil }}),
		tree.File("empty", 0o600, nil),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return &tree
}

func written(t *testing.T, tree *Tree, mtime uint32) []byte {
	t.Helper()
	var b bytes.Buffer
	stats, err := tree.Write(&b, mtime)
	if err != nil {
		t.Fatal(err)
	}
	if stats.Bytes != int64(b.Len()) || b.Len()%512 != 0 {
		t.Errorf("%d bytes are counted, %d written", stats.Bytes, b.Len())
	}
	return b.Bytes()
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	data := written(t, sample(t), 1000)
	r := NewReader(bytes.NewReader(data))
	var got strings.Builder
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%d %v %s %d:%d %d %q %q %d\n", h.Inode, h.FileMode(), h.Name, h.Major, h.Minor, h.Size, content, h.Data, h.MTime)
	}
	want := `1 drwxr-xr-x bin 0:0 0 "" "" 1000
2 -rwxr-xr-x bin/windlass 0:0 7 "program" "" 1000
3 drwxr-xr-x dev 0:0 0 "" "" 1000
4 Dcrw------- dev/console 5:1 0 "" "" 1000
5 -rw------- empty 0:0 0 "" "" 1000
6 drwxr-xr-x etc 0:0 0 "" "" 1000
7 -rw-r--r-- etc/passwd 0:0 26 "root:x:0:0::/root:/bin/sh\n" "" 1000
8 Lrwxrwxrwx init 0:0 12 "" "bin/windlass" 1000
9 dtrwxrwxrwx tmp 0:0 0 "" "" 1000
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// TestOtherProgramsReadIt compares with busybox, which prints what it unpacks.
func TestOtherProgramsReadIt(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("busybox", "cpio", "-idmv")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(written(t, sample(t), 7))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := strings.Fields(string(out)); strings.Join(got[:9], " ") != "bin bin/windlass dev dev/console empty etc etc/passwd init tmp" {
		t.Errorf("got %q", got)
	}
	show := exec.Command("sh", "-c", "stat -c '%A %n %t %T %Y %u:%g' dev/console init tmp; cat bin/windlass etc/passwd")
	show.Dir = dir
	out, err = show.CombinedOutput()
	want := "crw------- dev/console 5 1 7 0:0\nlrwxrwxrwx init 0 0 "
	if err != nil || !strings.HasPrefix(string(out), want) || !strings.Contains(string(out), "drwxrwxrwt tmp") ||
		!strings.HasSuffix(string(out), "programroot:x:0:0::/root:/bin/sh\n") {
		t.Errorf("got %v\n%s", err, out)
	}
}

func TestTheOrderOfAddingDoesNotCount(t *testing.T) {
	var a, b Tree
	for i := range 50 {
		if err := a.File(fmt.Sprintf("d%d/f", i), 0o644, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if err := b.File(fmt.Sprintf("d%d/f", 49-i), 0o644, []byte{byte(49 - i)}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(written(t, &a, 7), written(t, &b, 7)) {
		t.Error("the archives differ")
	}
}

func TestDirectoriesThatNobodyAddedHaveTheirModes(t *testing.T) {
	tree := Tree{Modes: map[string]uint32{"root": 0o700}}
	if err := tree.File("root/.ssh/key", 0o600, nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{"root": TypeDir | 0o700, "root/.ssh": TypeDir | 0o755} {
		if e, ok := tree.Get(name); !ok || e.Mode != want {
			t.Errorf("%s: %o", name, e.Mode)
		}
	}
}

func TestWhatTheKernelWouldNotUnpackIsRefused(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/../b", "a//b", "a/", "./a", "/", "//a", "TRAILER!!!", "a\x00b", strings.Repeat("a/", 2048) + "b"} {
		var tree Tree
		if err := tree.File(name, 0o644, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.20q: got %v", name, err)
		}
	}
	var tree Tree
	if err := tree.Link("a", ""); !fault.Is(err, fault.Invalid) {
		t.Errorf("a link to nowhere: %v", err)
	}
	if err := tree.Add(Entry{Name: "a", Mode: 0o644}); !fault.Is(err, fault.Invalid) {
		t.Errorf("no type: %v", err)
	}
	if err := errors.Join(tree.Link("lib", "usr/lib"), tree.File("lib/modules/x", 0o644, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Write(io.Discard, 0); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "lib is no directory") {
		t.Errorf("a file in a link: %v", err)
	}
}

func TestAnErrorOfLoadNamesTheFile(t *testing.T) {
	var tree Tree
	broken := errors.New("broken")
	if err := tree.Add(Entry{Name: "a/b", Mode: TypeRegular, Load: func() ([]byte, error) { return nil, broken }}); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Write(io.Discard, 0); !errors.Is(err, broken) || !strings.Contains(err.Error(), "pack a/b") {
		t.Errorf("got %v", err)
	}
}

func TestDamageIsTold(t *testing.T) {
	good := written(t, sample(t), 0)
	for name, data := range map[string][]byte{
		"empty":           nil,
		"no archive":      bytes.Repeat([]byte("x"), 200),
		"cut in a header": good[:50],
		"cut in content":  good[:bytes.Index(good, []byte("program"))+3],
		"no end":          good[:bytes.Index(good, []byte(trailer))-headerSize],
		"bad number":      append([]byte(magic+"0000000g"), good[14:]...),
		"long name":       append(append(bytes.Clone(good[:94]), "7fffffff"...), good[102:]...),
	} {
		if _, err := readAll(data); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func readAll(data []byte) (names []string, err error) {
	r := NewReader(bytes.NewReader(data))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return names, err
		}
		names = append(names, h.Name)
	}
}

func FuzzReader(f *testing.F) {
	var b bytes.Buffer
	var tree Tree
	if err := errors.Join(tree.Link("a", "b"), tree.File("d/c", 0o644, []byte("text"))); err != nil {
		f.Fatal(err)
	}
	if _, err := tree.Write(&b, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		names, err := readAll(data)
		if err != nil && !fault.Is(err, fault.Corrupt) {
			t.Errorf("got %v", err)
		}
		if len(names) > len(data)/headerSize {
			t.Errorf("%d entries out of %d bytes", len(names), len(data))
		}
	})
}
