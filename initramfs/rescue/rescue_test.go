package rescue

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// fakeGo is a go command whose u-root writes a small archive. Calls are counted in the file calls beside it.
func fakeGo(t *testing.T) (program, calls string) {
	t.Helper()
	dir := t.TempDir()
	var tree cpio.Tree
	if err := tree.Add(cpio.Entry{Name: "bbin/bb", Mode: cpio.TypeRegular | 0o700, UID: 7, Data: []byte("program")}); err != nil {
		t.Fatal(err)
	}
	if err := tree.Link("bbin/ls", "bb"); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if _, err := tree.Write(&archive, 99); err != nil {
		t.Fatal(err)
	}
	script := `#!/bin/sh
case $1 in
version) echo go version go1.26 test ;;
build) echo build >>` + dir + `/calls; cp ` + dir + `/u-root "$3" ;;
esac
`
	tool := "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\nls go.mod go.sum >/dev/null && cp " + dir + "/archive \"$2\"\n"
	for name, text := range map[string]string{"go": script, "u-root": tool, "archive": archive.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir + "/go", dir + "/calls"
}

func written(t *testing.T, tree *cpio.Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := tree.Write(&b, 0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWhatWasBuiltIsKeptAndChecked(t *testing.T) {
	ctx := context.Background()
	program, calls := fakeGo(t)
	c := Config{Go: program, Cache: filepath.Join(t.TempDir(), "made", "here")}
	if tree, err := c.Cached(ctx); err != nil || tree != nil {
		t.Fatalf("an empty cache: %v, %v", tree, err)
	}
	first, err := c.Build(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := first.Get("bbin/bb"); e.Mode != cpio.TypeRegular|0o755 || e.UID != 0 || string(e.Data) != "program" {
		t.Errorf("got %+v", e)
	}
	second, err := c.Build(ctx)
	if err != nil || !bytes.Equal(written(t, first), written(t, second)) {
		t.Errorf("out of the cache comes another: %v", err)
	}
	files, err := filepath.Glob(c.Cache + "/*")
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	if err := os.WriteFile(files[0], append(written(t, first), "damage"...), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Build(ctx); err != nil {
		t.Error(err)
	}
	other := c
	other.Arch = "arm64"
	if _, err := other.Build(ctx); err != nil {
		t.Error(err)
	}
	if n, _ := os.ReadFile(calls); string(n) != "build\nbuild\nbuild\n" {
		t.Errorf("built %q: first, after the damage, and for another machine", n)
	}
}

func TestWhatGoesWrongIsTold(t *testing.T) {
	ctx := context.Background()
	t.Setenv("PATH", t.TempDir())
	for _, name := range []string{"", "/nonexistent/go"} {
		_, err := Config{Go: name, Cache: t.TempDir()}.Build(ctx)
		if !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.HintOf(err), "--layer rescue") {
			t.Errorf("no go command: %v", err)
		}
	}
	bad := filepath.Join(t.TempDir(), "go")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\n[ $1 = version ] || { echo no such proxy >&2; exit 3; }\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := (Config{Go: bad, Cache: t.TempDir()}).Build(ctx); !fault.Is(err, fault.Backend) || !strings.Contains(err.Error(), "no such proxy") {
		t.Errorf("a build that fails: %v", err)
	}
}

// TestTheCommandsAreBuilt really, the first time; then they are in the cache of the tests.
func TestTheCommandsAreBuilt(t *testing.T) {
	tree, err := Config{Cache: filepath.Join(cmp.Or(os.Getenv("WINDLASS_CACHE"), "/var/cache/windlass-test"), "rescue")}.Build(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(Commands(), "sh") {
		in := "bbin/"
		if name == "sh" {
			in = "bin/"
		}
		if e, ok := tree.Get(in + name); !ok || e.Type() != cpio.TypeSymlink {
			t.Errorf("there is no %s", name)
		}
	}
	if len(Commands()) < 60 || slices.Contains(Commands(), "modprobe") || slices.Contains(Commands(), "init") {
		t.Errorf("got %q", Commands())
	}
	bb, _ := tree.Get("bbin/bb")
	f, err := elf.NewFile(bytes.NewReader(bb.Data))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the commands need libraries")
		}
	}
}
