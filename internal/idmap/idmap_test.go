package idmap

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestNamespaceHasTheIDs(t *testing.T) {
	before := children(t)
	ns, err := Namespace(t.Context(), Range{First: 0x10020000, Size: 65536})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if left := children(t); left != before {
		t.Errorf("processes before: %q, after: %q", before, left)
	}
	for _, name := range []string{"uid_map", "gid_map"} {
		out, err := exec.Command("nsenter", fmt.Sprintf("--user=/proc/%d/fd/%d", os.Getpid(), ns.Fd()), "cat", "/proc/self/"+name).CombinedOutput()
		if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != "0 268566528 65536" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestARangeThatTheKernelRefuses(t *testing.T) {
	before := children(t)
	if ns, err := Namespace(t.Context(), Range{First: ^uint32(0), Size: 2}); err == nil {
		ns.Close()
		t.Error("it was made")
	}
	if left := children(t); left != before {
		t.Errorf("processes before: %q, after: %q", before, left)
	}
}

func TestHas(t *testing.T) {
	r := Range{First: 1000, Size: 10}
	for id, want := range map[uint32]bool{0: false, 999: false, 1000: true, 1009: true, 1010: false, ^uint32(0): false} {
		if r.Has(id) != want {
			t.Errorf("%d: %v", id, !want)
		}
	}
}

func children(t *testing.T) string {
	t.Helper()
	all := ""
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children") // the thread may have ended
		all += string(b)
	}
	return strings.TrimSpace(all)
}
