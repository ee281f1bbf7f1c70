//go:build guest

package guest

import (
	"flag"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/vm"
)

var all = []vm.Case{
	{Name: "cgroup", Pkg: "internal/cgroup"},
	{Name: "linux", Pkg: "container/linux", Skip: "TestConformance/Systemd/^user$"},
	{Name: "device", Pkg: "mount/device", Skip: "TestDriver/^(ext4_read-only|btrfs)$", Tools: []string{"mksquashfs", "mkfs.erofs", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"}},
	{Name: "overlay", Pkg: "mount/overlay", Skip: "/older_kernel", Tools: []string{"mksquashfs", "mkfs.erofs"}}, // 6.1 is one itself
	{Name: "loop", Pkg: "attach/loop", Asked: true, Tools: []string{"sfdisk", "partx", "mkfs.ext4", "losetup"}},
	{Name: "bind", Pkg: "mount/bind", Asked: true},
	{Name: "tmpfs", Pkg: "mount/tmpfs", Asked: true},
	{Name: "erofs", Pkg: "chunkfs/erofs", Run: "TestKernel/(loop|no)_|TestTools", Tools: []string{"mkfs.erofs", "fsck.erofs", "dump.erofs"}},
	{Name: "fusefs", Pkg: "chunkfs/fusefs", Run: "TestTakeOver|TestReadOnly|TestKill"},
	{Name: "chunkserve", Pkg: "chunkfs/serve", Run: "TestModes|TestKilled$|TestServerKilledUnderImages|TestKilledReader|TestOtherIDs"},
	{Name: "chunkmount", Pkg: "mount/chunk", Run: "TestLoop|TestMountFrom|TestDriver",
		Skip: "TestDriver/^(direct|lazy|fuse)$/(many|.*ends_in|killed_while|hostile)|TestDriver/(a_server|server|lazy,)", Tools: []string{"mkfs.ext4"}},
}

// modules are those of the file systems that nodes mount. They are asked for by name: nothing loads modules by itself there.
func modules() []string { return []string{"overlay", "loop", "erofs", "fuse", "xfs", "btrfs"} }

// casesVar names the packages of every day that run, separated by spaces, or with a minus before each those that do not: test/run.sh has two
// guests share them.
const casesVar = "WINDLASS_GUEST_CASES"

// chosen says whether casesVar lets a package run.
func chosen(name string) bool {
	list := strings.Fields(os.Getenv(casesVar))
	if slices.Contains(list, "-"+name) {
		return false
	}
	return slices.Contains(list, name) || !slices.ContainsFunc(list, func(s string) bool { return !strings.HasPrefix(s, "-") })
}

// wanted are the packages and tests that -run asks for, TestGuest/PACKAGE/TEST, or those of every day.
func wanted(t *testing.T) []vm.Case {
	t.Helper()
	pattern := strings.SplitN(flag.Lookup("test.run").Value.String(), "/", 3)
	pattern = append(pattern, "", "")
	want, err := regexp.Compile(pattern[1])
	if err != nil {
		t.Fatal(err)
	}
	var cases []vm.Case
	for _, c := range all {
		switch {
		case pattern[1] != "" && want.MatchString(c.Name):
			c.Run, c.Skip, c.Timeout = pattern[2], "", 12*time.Minute // all of its tests
			cases = append(cases, c)
		case pattern[1] == "" && !c.Asked && chosen(c.Name):
			cases = append(cases, c)
		}
	}
	if len(cases) == 0 {
		t.Fatalf("no package is called %q; there are %v", pattern[1], all)
	}
	return cases
}

// TestGuest boots once and runs everything.
func TestGuest(t *testing.T) {
	for _, script := range []string{"../kernel.sh", "../rootfs.sh"} {
		out, err := exec.Command(script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
		if said := strings.TrimSpace(string(out)); said != "" {
			t.Log(said)
		}
	}
	cases := wanted(t)
	config := vm.Config{Cases: cases, Tags: "guest", Modules: modules()}
	vm.Slot(t, config)
	m := vm.Boot(t, config)
	t.Logf("Linux %s", m.Kernel)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { m.Run(t, c) })
	}
	if !t.Failed() {
		m.Done(t)
	}
}
