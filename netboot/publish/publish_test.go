package publish

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// site makes a published directory beside a secret.
func site(t testing.TB) (*Tree, string) {
	t.Helper()
	base := t.TempDir()
	dir := filepath.Join(base, "pub")
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	must(os.WriteFile(filepath.Join(base, "secret"), []byte("secret"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "vmlinuz"), []byte("kernel"), 0o644))
	must(os.WriteFile(filepath.Join(dir, "sub", "a b"), []byte("blank"), 0o644))
	must(os.WriteFile(filepath.Join(dir, ".hidden"), []byte("secret"), 0o644))
	must(os.Symlink("vmlinuz", filepath.Join(dir, "current")))
	must(os.Symlink("../secret", filepath.Join(dir, "out")))
	must(os.Symlink(base, filepath.Join(dir, "away")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))
	must(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644))
	must(os.Symlink(filepath.Join(base, "secret"), filepath.Join(base, "ipxe.efi")))
	tree, err := New(dir, func() map[string]string { return map[string]string{"ipxe.efi": filepath.Join(base, "ipxe.efi")} })
	must(err)
	t.Cleanup(func() { tree.Close() })
	return tree, base
}

func TestOnlyWhatIsPublishedIsOpened(t *testing.T) {
	tree, base := site(t)
	for name, want := range map[string]string{"vmlinuz": "kernel", "/vmlinuz": "kernel", "sub/a b": "blank", "current": "kernel", "ipxe.efi": "secret"} {
		f, st, err := tree.Open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, _ := io.ReadAll(f)
		f.Close()
		if string(got) != want || st.Size() != int64(len(want)) {
			t.Errorf("%s holds %q, %d", name, got, st.Size())
		}
	}
	for name, kind := range map[string]fault.Kind{
		"": fault.Invalid, "/": fault.Invalid, strings.Repeat("a", 5000): fault.Invalid,
		"../secret": fault.Forbidden, "sub/../../secret": fault.Forbidden, "..": fault.Forbidden, ".": fault.Forbidden, "//etc/passwd": fault.Forbidden,
		"sub//a b": fault.Forbidden, "./vmlinuz": fault.Forbidden, `..\secret`: fault.Forbidden, "vmlinuz\x00.txt": fault.Forbidden,
		".hidden": fault.Forbidden, "sub/": fault.Forbidden, "out": fault.Forbidden, "away/secret": fault.Forbidden, "loop": fault.Forbidden,
		"/etc/passwd": fault.NotFound, "none": fault.NotFound, "sub": fault.NotFound, "pipe": fault.NotFound, "vmlinuz/x": fault.NotFound,
		strings.Repeat("a", 300): fault.NotFound, base + "/secret": fault.NotFound,
	} {
		f, _, err := tree.Open(name)
		if err == nil {
			f.Close()
			t.Errorf("%.60q was opened", name)
		} else if fault.KindOf(err) != kind {
			t.Errorf("%.60q: %v is %s, want %s", name, err, fault.KindOf(err), kind)
		} else if strings.Contains(err.Error(), base+"/pub") {
			t.Errorf("%.60q: the error tells where the directory is: %v", name, err)
		}
	}
}

func TestNothingIsPublishedWithoutADirectory(t *testing.T) {
	tree, err := New("", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tree.Open("etc/passwd"); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if _, err := New("/none/such", nil); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"vmlinuz", "../secret", "/out", "away/secret", "sub/../../secret", "a\x00b", `..\..\secret`, "sub/./a b", "\xff\xfe"} {
		f.Add(name)
	}
	tree, _ := site(f)
	f.Fuzz(func(t *testing.T, name string) {
		file, _, err := tree.Open(name)
		if err != nil {
			return
		}
		defer file.Close()
		if data, _ := io.ReadAll(file); strings.Contains(string(data), "secret") && strings.TrimPrefix(name, "/") != "ipxe.efi" {
			t.Errorf("%q gives the secret", name)
		}
	})
}

func TestTroubleOfThisMachineIsNoRefusal(t *testing.T) {
	for err, want := range map[error]fault.Kind{syscall.EMFILE: fault.Unavailable, syscall.EIO: fault.Unavailable, syscall.EACCES: fault.Forbidden, syscall.ENOENT: fault.NotFound} {
		if got := fault.KindOf(kind("x", &fs.PathError{Op: "open", Path: "x", Err: err})); got != want {
			t.Errorf("%v is %s, not %s", err, got, want)
		}
	}
}
