package kmod

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOtherLoadersFindWhatDepmodSays compares with what busybox's depmod writes for the same modules.
func TestOtherLoadersFindWhatDepmodSays(t *testing.T) {
	d := debian(t)
	s, err := d.Resolve(Minimal.Request())
	if err != nil {
		t.Fatal(err)
	}
	x := d.Index(s, filepath.Base(d.Path()), nil)
	dep, aliases := x.Depmod()
	base := t.TempDir()
	to := filepath.Join(base, "lib/modules", x.Release)
	for _, m := range s.Modules {
		data, err := m.Read()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(m.Plain())), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, m.Plain()), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("busybox", "depmod", "-b", base, x.Release).CombinedOutput(); err != nil {
		t.Fatalf("%v: install Debian's busybox-static: %s", err, out)
	}
	same(t, filepath.Join(to, DepName), string(dep))
	same(t, filepath.Join(to, AliasesName), string(aliases))
}

// same compares lines without their order, and in a line of modules.dep the modules without theirs.
func same(t *testing.T, file, got string) {
	t.Helper()
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a, b := lines(string(want)), lines(got)
	for _, l := range a {
		if !slices.Contains(b, l) {
			t.Errorf("%s lacks %q", filepath.Base(file), l)
		}
	}
	for _, l := range b {
		if !slices.Contains(a, l) {
			t.Errorf("%s has %q", filepath.Base(file), l)
		}
	}
	if len(a) < 50 {
		t.Errorf("depmod found %d modules only", len(a))
	}
}

func lines(text string) (list []string) {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		head, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if strings.HasPrefix(line, "alias ") {
			head, rest = strings.TrimSpace(line), ""
		}
		words := strings.Fields(rest)
		slices.Sort(words)
		list = append(list, head+": "+strings.Join(words, " "))
	}
	return list
}
