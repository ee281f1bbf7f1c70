//go:build guest

package guest

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/windlass-hpc/windlass"

// testCase is a package whose tests run in the guest.
type testCase struct {
	name, pkg string
	tools     []string // programs of this machine that they need beside Debian's smallest system
	asked     bool     // run when -run names the package only
	skip      string   // tests that run only then
	run       string   // only these
	chosen    bool     // -run names it
}

// args are the arguments of the test program, for a shell.
func (c testCase) args() string {
	timeout := "4m"
	if c.chosen {
		timeout = "12m" // all of its tests
	}
	args := "-test.v=test2json -test.timeout=" + timeout
	for flag, pattern := range map[string]string{"-test.skip": c.skip, "-test.run": c.run} {
		if pattern != "" {
			args += " " + flag + "='" + strings.ReplaceAll(pattern, "'", `'\''`) + "'"
		}
	}
	return args
}

var all = []testCase{
	{name: "cgroup", pkg: "internal/cgroup"},
	{name: "linux", pkg: "container/linux", skip: "TestConformance/Systemd/^user$"},
	{name: "device", pkg: "mount/device", skip: "TestDriver/^(ext4_read-only|btrfs)$", tools: []string{"mksquashfs", "mkfs.erofs", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"}},
	{name: "overlay", pkg: "mount/overlay", skip: "/older_kernel", tools: []string{"mksquashfs", "mkfs.erofs"}}, // 6.1 is one itself
	{name: "loop", pkg: "attach/loop", asked: true, tools: []string{"sfdisk", "partx", "mkfs.ext4", "losetup"}},
	{name: "bind", pkg: "mount/bind", asked: true},
	{name: "tmpfs", pkg: "mount/tmpfs", asked: true},
	{name: "erofs", pkg: "chunkfs/erofs", run: "TestKernel/(loop|no)_|TestTools", tools: []string{"mkfs.erofs", "fsck.erofs", "dump.erofs"}},
	{name: "fusefs", pkg: "chunkfs/fusefs", run: "TestTakeOver|TestReadOnly|TestKill"},
	{name: "chunkserve", pkg: "chunkfs/serve", run: "TestModes|TestKilled$|TestServerKilledUnderImages|TestKilledReader|TestOtherIDs"},
	{name: "chunkmount", pkg: "mount/chunk", run: "TestLoop|TestMountFrom|TestDriver",
		skip: "TestDriver/^(direct|lazy|fuse)$/(many|.*ends_in|killed_while|hostile)|TestDriver/(a_server|server|lazy,)", tools: []string{"mkfs.ext4"}},
}

// wanted are the packages and tests that -run asks for, TestGuest/PACKAGE/TEST, or those of every day.
func wanted(t *testing.T) []testCase {
	t.Helper()
	pattern := strings.SplitN(flag.Lookup("test.run").Value.String(), "/", 3)
	pattern = append(pattern, "", "")
	want, err := regexp.Compile(pattern[1])
	if err != nil {
		t.Fatal(err)
	}
	var cases []testCase
	for _, c := range all {
		switch {
		case pattern[1] != "" && want.MatchString(c.name):
			c.run, c.skip, c.chosen = pattern[2], "", true
			cases = append(cases, c)
		case pattern[1] == "" && !c.asked:
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
		if said := strings.TrimSpace(must(t, nil, script)); said != "" {
			t.Log(said)
		}
	}
	cases := wanted(t)
	m := boot(t, initramfs(t, cases))
	t.Logf("Linux %s", m.kernel)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { m.run(t, c) })
	}
	if !t.Failed() {
		m.await(t, "guest: done", silencePatience)
	}
}

// event is what test2json writes; see `go doc cmd/test2json`.
type event struct{ Action, Test, Output string }

// run follows the tests of one package, which are subtests of t while they run in the guest.
func (m *machine) run(t *testing.T, c testCase) {
	m.await(t, "guest: run "+c.name, silencePatience)
	conv := exec.Command("go", "tool", "test2json", "-t")
	in, err := conv.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := conv.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := conv.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	code := ""
	go func() {
		defer in.Close()
		for {
			line, err := m.next(silencePatience)
			rest, last := strings.CutPrefix(line, "guest: end "+c.name+" ")
			if err != nil || last {
				code = strings.TrimSpace(rest)
				ended <- err
				return
			}
			_, _ = io.WriteString(in, line)
		}
	}()
	r := &replay{events: json.NewDecoder(out)}
	r.follow(t, "")
	_, _ = io.Copy(io.Discard, out)
	if err := conv.Wait(); err != nil {
		t.Errorf("test2json: %v", err)
	}
	switch err := <-ended; {
	case err != nil:
		t.Fatal(err)
	case code != "0" && !t.Failed():
		t.Errorf("the test program ended with code %s", code)
	}
}

// replay makes subtests of events as they come.
type replay struct {
	events *json.Decoder
	over   bool
}

// follow takes events up to the end of the test called name; the empty name is that of the package.
func (r *replay) follow(t *testing.T, name string) {
	prefix := name + "/"
	if name == "" {
		prefix = ""
	}
	for !r.over {
		var e event
		if err := r.events.Decode(&e); err != nil || e.Test == "" && ended(e) {
			r.over = true
			if name != "" {
				t.Errorf("it had not ended when all did")
			} else if e.Action == "fail" && !t.Failed() {
				t.Error("failed")
			}
			return
		}
		switch {
		case e.Action == "run" && e.Test != name:
			t.Run(strings.TrimPrefix(e.Test, prefix), func(t *testing.T) { r.follow(t, e.Test) })
		case e.Action == "output":
			if text := strings.TrimRight(e.Output, "\n"); !framing(text) {
				t.Log(text)
			}
		case e.Test == name && e.Action == "fail":
			t.Fail()
			return
		case e.Test == name && e.Action == "skip":
			t.SkipNow()
		case e.Test == name && e.Action == "pass":
			return
		}
	}
}

func ended(e event) bool { return e.Action == "pass" || e.Action == "fail" || e.Action == "skip" }

// framing says that a line tells only what the event tells already.
func framing(line string) bool {
	line = strings.TrimSpace(line)
	return strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") || line == "" || line == "PASS" || line == "FAIL"
}

func (c testCase) String() string { return fmt.Sprintf("%s (%s)", c.name, c.pkg) }
