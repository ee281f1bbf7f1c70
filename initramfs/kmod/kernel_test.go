package kmod

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// debian gives the modules of Debian's kernel, which test/kernel.sh has fetched.
func debian(t testing.TB) *Dir {
	t.Helper()
	cache := cmp.Or(os.Getenv("WINDLASS_CACHE"), "/var/cache/windlass-test")
	d, err := Open(filepath.Join(cache, "kernel"), "")
	if err != nil {
		t.Fatalf("Debian's kernel is needed, which test/kernel.sh fetches: %v", err)
	}
	return d
}

// TestDependenciesAreThoseOfDepmod compares all modules with modules.dep, which busybox has made.
func TestDependenciesAreThoseOfDepmod(t *testing.T) {
	d := debian(t)
	text, err := os.ReadFile(filepath.Join(d.Path(), "modules.dep"))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(text)) {
		file, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		s, err := d.Resolve(Request{Names: []string{moduleName(file)}})
		if err != nil {
			if wasTakenAway(d, err) {
				continue
			}
			t.Errorf("%s: %v", file, err)
			continue
		}
		at := map[string]int{}
		for i, m := range s.Modules {
			at[m.Path] = i + 1
		}
		for _, need := range strings.Fields(rest) {
			compared++
			if at[need] == 0 || at[need] > at[file] {
				t.Errorf("%s needs %s: not before it", file, need)
			}
		}
	}
	if compared < 1000 {
		t.Errorf("only %d dependencies were compared", compared)
	}
}

// wasTakenAway says whether a module needs one that the kernel's package has and that test/kernel.sh leaves out.
func wasTakenAway(d *Dir, err error) bool {
	_, rest, _ := strings.Cut(err.Error(), " needs ")
	name, _, _ := strings.Cut(rest, ",")
	return d.rank[name] > 0 && d.files[name] == ""
}

func TestPresetsResolve(t *testing.T) {
	sizes := map[Preset]int{}
	for _, p := range Presets() {
		s, err := debian(t).Resolve(p.Request())
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		t.Logf("%s: %d modules; missing: %v; notes: %d", p, len(s.Modules), s.Missing, len(s.Notes))
		sizes[p] = len(s.Modules)
		seen := map[string]bool{}
		for _, m := range s.Modules {
			for _, n := range m.Needs {
				if !seen[n] && !debian(t).builtIn[n] {
					t.Errorf("%s: %s comes before %s, which it needs", p, m.Name, n)
				}
			}
			seen[m.Name] = true
		}
		nodes := (&Loader{index: debian(t).Index(s, "", nil)}).Nodes()
		for _, want := range []Node{{"fuse", false, 10, 229}, {"loop-control", false, 10, 237}, {"net/tun", false, 10, 200}} {
			if !slices.Contains(nodes, want) {
				t.Errorf("%s: nobody makes /dev/%s, only %v", p, want.Name, nodes)
			}
		}
		for _, want := range []string{"rbd", "fuse", "erofs", "crc32c_generic", "nfsv4", "iscsi_tcp", "overlay", "virtio_net"} {
			if !seen[want] {
				t.Errorf("%s has no %s", p, want)
			}
		}
	}
	if sizes[Minimal] >= sizes[HPC] || sizes[HPC] >= sizes[All] {
		t.Errorf("got %v", sizes)
	}
}
