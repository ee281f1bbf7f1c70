package boot

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestTheNextFirstProcessHasWhatTheKernelGave(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"/sbin", "/bin"} {
		if err := os.Mkdir(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"/sbin/init": 0o755, "/bin/sh": 0o755, "/bin/text": 0o644} {
		if err := os.WriteFile(dir+name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ line, program string }{
		{"quiet windlass.handoff=switch_root single", "/sbin/init"},
		{"init=/bin/none init=/bin/sh single", "/bin/sh"},
		{"init=/bin/text", ""},
		{"init=/bin/none", ""},
	} {
		n := &node{line: c.line}
		next, err := n.nextInit(dir, []string{"single"}, []string{"HOME=/", "TERM=vt220", "role=worker", hopped + "=" + moved, "odd"})
		if c.program == "" {
			if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), c.line) {
				t.Errorf("%s: %v", c.line, err)
			}
			continue
		}
		if err != nil || next.Program != c.program || !slices.Equal(next.Args, []string{"single"}) {
			t.Errorf("%s: %+v, %v", c.line, next, err)
		}
		slices.Sort(next.Env)
		if !slices.Equal(next.Env, []string{"HOME=/", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=vt220", "role=worker"}) {
			t.Errorf("%s: %q", c.line, next.Env)
		}
	}
}

func TestOnlyTheDaemonOfARootHasItsServersSpared(t *testing.T) {
	for handoff, want := range map[string]bool{cmdline.HandoffContainer: false, cmdline.HandoffKexec: false, cmdline.HandoffSwitchRoot: true} {
		n := &node{opts: cmdline.Options{Handoff: handoff}}
		got := slices.ContainsFunc(n.daemonEnvironment(), func(v string) bool { return strings.HasPrefix(v, control.SparedEnv+"=") })
		if got != want {
			t.Errorf("%s: %v", handoff, got)
		}
	}
}
