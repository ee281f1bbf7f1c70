package boot

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/bootstage"
)

// strayProgram is the name by which the test program lives as init does with regard to signals, and answers each line.
const strayProgram = "windlass-test-stray"

func liveWithStrays() {
	_ = strays()
	fmt.Println("lives")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(lines.Text())
	}
}

func TestNoSignalEndsInit(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args[0] = strayProgram
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "lives" {
		t.Fatalf("%q, %v", lines.Text(), lines.Err())
	}
	handled := map[os.Signal]bool{unix.SIGKILL: true, unix.SIGSTOP: true}
	for _, s := range asks() {
		handled[s] = true
	}
	for s := unix.Signal(1); s < 65; s++ {
		if handled[s] || s >= 32 && s <= 34 { // those have no handler, so the kernel spares the first process
			continue
		}
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatalf("%d: %v", s, err)
		}
		fmt.Fprintf(in, "after %d\n", s)
		if !lines.Scan() || lines.Text() != fmt.Sprintf("after %d", s) {
			t.Fatalf("signal %d (%v) ended it", s, s)
		}
	}
}

func TestAFaultOfWindlassIsToldAndMended(t *testing.T) {
	url, got := reports(t)
	n, out := newNode(t, &fakeDaemon{}, "windlass.rescue=off"+mac+"windlass.report="+url)
	n.reports.Network()
	mended := make(chan struct{})
	n.spawn("the boot", func() { close(mended) }, func() { panic("it is broken") })
	<-mended
	if !strings.Contains(out.String(), "the boot: a fault of windlass") || !strings.Contains(out.String(), "guard_test.go") {
		t.Error("it was not told, or not where")
	}
	within(t, "the boot server knows", func() bool {
		return strings.Contains(strings.Join(got(), "\n"), "rescue failed the boot: a fault of windlass")
	})
}

func TestAKernelThatPanicsStartsAnew(t *testing.T) {
	for line, want := range map[string]string{"quiet": "30", "panic=0": "0", "x panic=5": "0"} {
		file := filepath.Join(t.TempDir(), "panic")
		if err := os.WriteFile(file, []byte("0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		reviveAfterPanic(line, file)
		if text, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%s: %q, %v", line, text, err)
		}
	}
}

// TestAShellOfATroubleThatIsOverIsNotOpened waits for its turn behind another shell.
func TestAShellOfATroubleThatIsOverIsNotOpened(t *testing.T) {
	_, device := terminalPair(t)
	n, out := newNode(t, &fakeDaemon{}, "")
	ctx, cancel := context.WithCancel(t.Context())
	n.terminal, n.reaper = device, reaper()
	n.shell.Lock() // somebody is at the console
	n.call(ctx, bootstage.Image, trouble{why: "image failed"})
	n.call(ctx, bootstage.Container, trouble{why: "container failed"})
	n.well(bootstage.Image)
	n.shell.Unlock()
	within(t, "the other one is opened", func() bool { return strings.Contains(out.String(), "container failed. A shell is on the console") })
	cancel()
	n.shell.Lock() // both have ended
	if strings.Contains(out.String(), "image failed.") {
		t.Error("a shell was opened for what works")
	}
}
