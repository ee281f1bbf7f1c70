package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/boot/supervise"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// terminalPair is a terminal of no size, as a serial line has, and whoever sits at it.
func terminalPair(t *testing.T) (person *os.File, device string) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	device = fmt.Sprintf("/dev/pts/%d", n)
	line, err := os.OpenFile(device, os.O_RDWR|unix.O_NOCTTY, 0) // a line is there while no shell is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	return person, device
}

// reaper takes the children of this process: there can be one.
var reaper = sync.OnceValue(func() *supervise.Reaper { return supervise.NewReaper(context.Background()) })

func TestAPersonIsHelped(t *testing.T) {
	person, device := terminalPair(t)
	n, said := newNode(t, &fakeDaemon{}, "")
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	n.terminal, n.reaper = device, reaper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.rescue(ctx, trouble{why: "image failed; it is tried again meanwhile", err: fault.Hintf(errors.New("http://h/ answers 500 \x1b[2J"), "mend it")})
	}()
	shown := &text{}
	go func() {
		b := make([]byte, 4096)
		for {
			k, err := person.Read(b)
			if err != nil {
				return
			}
			_, _ = shown.Write(b[:k])
		}
	}()
	types := func(line string) {
		t.Helper()
		if _, err := person.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the terminal showed:\n%s", shown)
		}
	})
	shows := func(what string) {
		t.Helper()
		within(t, "it shows "+what, func() bool { return strings.Contains(shown.String(), what) })
	}
	for _, want := range []string{"windlass: image failed; it is tried again meanwhile", "http://h/ answers 500 ?[2J: mend it", "exit ", logFile, "windlass reboot"} {
		shows(want)
	}
	types("echo size''d $(stty size) $TERM; unset PS1\r")
	shows("sized 24 80 ")
	types("trap 'echo interrupt''ed' INT; sh -c \"echo ready''1; exec sleep 1000\"; echo af''ter\r")
	shows("ready1")
	types("\x03") // it ends the command and not the shell: the terminal is the shell's own
	shows("interrupted")
	types("trap - INT; exec sh -c \"echo ready''2; exec sleep 1000\"\r")
	shows("ready2")
	types("\x03") // now the shell: there is another one
	types("echo another''one; exit 3\r")
	shows("anotherone")
	within(t, "it goes on", func() bool { return strings.Contains(said.String(), "rescue: the shell ended with code 3") })
	<-done
	select {
	case <-n.nudged:
	default:
		t.Error("what failed is not tried at once")
	}
}

func TestTheEndOfTheNodeEndsTheShell(t *testing.T) {
	_, device := terminalPair(t)
	n, said := newNode(t, &fakeDaemon{}, "")
	ctx, cancel := context.WithCancel(t.Context())
	n.terminal, n.reaper = device, reaper()
	done := make(chan struct{})
	go func() { defer close(done); n.rescue(ctx, trouble{why: "x", waits: true}) }()
	within(t, "there is a shell", func() bool { return strings.Contains(said.String(), "A shell is on the console") })
	cancel()
	<-done
}

func TestABannerIsForEveryTerminal(t *testing.T) {
	for _, b := range []string{trouble{why: "größe", err: errors.New("a\nb")}.banner(), trouble{why: "x", waits: true}.banner()} {
		for line := range strings.SplitSeq(b, "\r\n") {
			if len(line) > 79 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q", line)
			}
		}
	}
}
