package namespace

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	mark    = "WINDLASS_NAMESPACE_TEST_INSIDE"
	ordered = "WINDLASS_NAMESPACE_TEST_ORDER"
)

// TestMain is what it tests: run with an order it does that inside.
func TestMain(m *testing.M) {
	order := os.Getenv(ordered)
	if order == "" {
		os.Exit(m.Run())
	}
	if inside, code := Again(mark, unix.CLONE_NEWNS|unix.CLONE_NEWNET|unix.CLONE_NEWPID); !inside {
		os.Exit(code)
	}
	switch order {
	case "look":
		var text []string
		for _, ns := range []string{"mnt", "net"} {
			link, err := os.Readlink("/proc/thread-self/ns/" + ns)
			if err != nil { // /proc is that of the processes outside
				link = ns + ": " + err.Error()
			}
			text = append(text, link)
		}
		if err := unix.Mount("inside", os.Getenv("WINDLASS_NAMESPACE_TEST_DIR"), "tmpfs", 0, ""); err != nil {
			text = append(text, err.Error())
		}
		if os.Getpid() != 1 {
			text = append(text, "this is not process 1")
		}
		os.Stdout.WriteString(os.Args[0] + " " + strings.Join(os.Args[1:], " ") + "\n" + strings.Join(text, "\n"))
	case "fail":
		os.Exit(7)
	case "die":
		_ = unix.Kill(unix.Getpid(), unix.SIGABRT)
	}
	os.Exit(0)
}

func run(t *testing.T, order, dir string) (string, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "one", "two")
	cmd.Args[0] = "by-name"
	cmd.Env = append(os.Environ(), ordered+"="+order, "WINDLASS_NAMESPACE_TEST_DIR="+dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestItRunsAgainInside(t *testing.T) {
	dir := t.TempDir()
	out, err := run(t, "look", dir)
	if err != nil || !strings.HasPrefix(out, "by-name one two\n") || strings.Contains(out, "not process 1") {
		t.Fatalf("%v: %s", err, out)
	}
	for _, ns := range []string{"mnt", "net"} {
		if link, err := os.Readlink("/proc/self/ns/" + ns); err != nil || strings.Contains(out, link) {
			t.Errorf("it is in %s, as this one: %v\n%s", link, err, out)
		}
	}
	if text, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(text), dir) {
		t.Errorf("what it mounted is seen outside: %v", err)
	}
}

func TestItsExitStatusIsGiven(t *testing.T) {
	for order, want := range map[string]string{"fail": "exit status 7", "die": "exit status"} {
		if out, err := run(t, order, ""); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v: %s", order, err, out)
		}
	}
}
