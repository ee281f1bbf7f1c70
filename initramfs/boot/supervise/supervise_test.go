package supervise

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/namespace"
)

const (
	insideVar = "WINDLASS_SUPERVISE_TEST_INSIDE"
	roleVar   = "WINDLASS_SUPERVISE_TEST_ROLE"
)

// TestMain runs the tests in a process that is nobody else's parent and takes orphans: what they start would else be waited for twice.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVar) {
	case "daemon":
		daemon()
	case "orphans":
		orphans()
	}
	if inside, code := namespace.Again(insideVar, 0); !inside {
		os.Exit(code)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// daemon says that it is ready, and stays, or ends with its argument.
func daemon() {
	fmt.Println("daemon", os.Args[1], "begins")
	if os.Args[1] == "hang" {
		time.Sleep(time.Hour)
	}
	if os.Args[1] != "stay" {
		fmt.Fprintln(os.Stderr, "it cannot be")
		os.Exit(3)
	}
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		os.Exit(4)
	}
	fmt.Fprint(c, "STATUS=x\nREADY=1\n")
	for os.Getenv("WATCHDOG_USEC") != "" {
		fmt.Fprint(c, "WATCHDOG=1")
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Hour)
}

// orphans leaves a process without a parent.
func orphans() {
	cmd := exec.Command("/bin/sleep", "0.1")
	if err := cmd.Start(); err != nil {
		os.Exit(1)
	}
	fmt.Println(cmd.Process.Pid)
	os.Exit(0)
}

// buffer may be written and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) { b.mu.Lock(); defer b.mu.Unlock(); return b.b.Write(p) }
func (b *buffer) String() string              { b.mu.Lock(); defer b.mu.Unlock(); return b.b.String() }

// reaper gives one that lives as long as what else the test has started. Two at once would take processes from each other.
func reaper(t *testing.T) *Reaper {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	return NewReaper(ctx)
}

func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestOrphansAreReaped(t *testing.T) {
	r := reaper(t)
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Start("/proc/self/exe", []string{"x"}, &os.ProcAttr{Env: []string{roleVar + "=orphans"}, Files: []*os.File{nil, out, out}})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	out.Close()
	var pid int
	if _, err := fmt.Fscan(in, &pid); err != nil {
		t.Fatal(err)
	}
	within(t, "the orphan is reaped", func() bool { return unix.Kill(pid, 0) == unix.ESRCH })
	if p.How() != "ended with code 0" {
		t.Error(p.How())
	}
}

func TestAloneOnceAllHaveEnded(t *testing.T) {
	r := reaper(t)
	if !r.Alone(20 * time.Second) {
		t.Fatal("there are processes of other tests")
	}
	p, err := r.Start("/bin/sleep", []string{"sleep", "1000"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Alone(50 * time.Millisecond) {
		t.Error("alone beside a process that runs")
	}
	p.Signal(unix.SIGKILL)
	if !r.Alone(20 * time.Second) {
		t.Error("not alone once it has ended")
	}
}

func TestManyShortProcesses(t *testing.T) {
	r := reaper(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 10 {
				p, err := r.Start("/bin/true", []string{"true"}, &os.ProcAttr{})
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case <-p.Done():
				case <-time.After(20 * time.Second):
					t.Error("nobody noticed that it ended")
				}
			}
		})
	}
	wg.Wait()
}

// kept is a daemon and what is told of it.
type kept struct {
	*Daemon
	log  buffer
	mu   sync.Mutex
	args []string
	told []string
	end  context.CancelFunc
	done chan struct{}
}

func keep(t *testing.T, arg string, change ...func(*Daemon)) *kept {
	ctx, cancel := context.WithCancel(t.Context())
	k := &kept{args: []string{"windlass", arg}, done: make(chan struct{}), end: cancel}
	tell := func(f string, a ...any) { k.mu.Lock(); k.told = append(k.told, fmt.Sprintf(f, a...)); k.mu.Unlock() }
	k.Daemon = &Daemon{
		Reaper: reaper(t), Program: "/proc/self/exe", Env: []string{roleVar + "=daemon"}, Notify: filepath.Join(t.TempDir(), "d/notify"), Log: &k.log,
		Args:    func() []string { k.mu.Lock(); defer k.mu.Unlock(); return k.args },
		Timing:  Timing{Pause: 20 * time.Millisecond, Longest: 200 * time.Millisecond, Steady: time.Second, Grace: 5 * time.Second},
		Started: func(int) { tell("started") }, Ready: func(time.Duration) { tell("ready") },
		Ended: func(how string, _, pause time.Duration) { tell("%s", how) }, Slow: func(text string) { tell("slow: %s", text) },
	}
	for _, c := range change {
		c(k.Daemon)
	}
	go func() {
		defer close(k.done)
		if err := k.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-k.done })
	return k
}

func (k *kept) count(what string) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.told {
		if strings.Contains(t, what) {
			n++
		}
	}
	return n
}

func TestADaemonThatIsKilledIsStartedAgain(t *testing.T) {
	k := keep(t, "stay")
	within(t, "it is ready", func() bool { return k.count("ready") == 1 })
	pid := k.PID()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, "it is ready again", func() bool { return k.count("ready") == 2 })
	if k.count("was ended by SIGKILL") != 1 || k.PID() == pid {
		t.Errorf("told %q", k.told)
	}
	k.end()
	<-k.done
	if k.PID() != 0 {
		t.Error("it runs on")
	}
	if n := strings.Count(k.log.String(), "daemon stay begins\n"); n != 2 {
		t.Errorf("log: %q", k.log.String())
	}
}

func TestADaemonThatCannotBe(t *testing.T) {
	k := keep(t, "fail")
	begun := time.Now()
	within(t, "it is tried five times", func() bool { return k.count("ended with code 3; its last line: it cannot be") >= 5 })
	if d := time.Since(begun); d < 100*time.Millisecond {
		t.Errorf("five times in %v: there was no pause", d)
	}
	k.mu.Lock()
	k.args = []string{"windlass", "stay"} // as when somebody has mended its configuration
	k.mu.Unlock()
	within(t, "it is ready", func() bool { return k.count("ready") == 1 })
}

func TestADaemonThatHangsIsKilled(t *testing.T) {
	k := keep(t, "stay", func(d *Daemon) { d.Timing.Silence = 300 * time.Millisecond })
	within(t, "it is ready", func() bool { return k.count("ready") == 1 })
	pid := k.PID()
	time.Sleep(600 * time.Millisecond) // twice the time that it may be silent: it lives on its signs
	if k.PID() != pid {
		t.Fatalf("it gave signs of life: %q", k.told)
	}
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	within(t, "it is started again", func() bool { return k.count("has given no sign of life") == 1 && k.count("ready") == 2 })
}

func TestADaemonThatNeverServesIsKilled(t *testing.T) {
	k := keep(t, "hang", func(d *Daemon) { d.Timing.Start = 500 * time.Millisecond })
	within(t, "it is told and killed twice", func() bool {
		return k.count("did not serve within 500ms, and was killed; its last line: daemon hang begins") >= 2 && k.count("slow: process") >= 2
	})
	k.mu.Lock()
	k.args = []string{"windlass", "stay"}
	k.mu.Unlock()
	within(t, "it is ready", func() bool { return k.count("ready") == 1 })
	pid := k.PID()
	time.Sleep(600 * time.Millisecond) // longer than it may take to start
	if k.PID() != pid {
		t.Errorf("it was ended though it served: %q", k.told)
	}
}

func TestAPauseCanBeEnded(t *testing.T) {
	k := keep(t, "fail", func(d *Daemon) { d.Timing.Pause, d.Timing.Longest = time.Hour, time.Hour })
	within(t, "it has failed", func() bool { return k.count("ended with code 3") == 1 })
	k.Wake()
	within(t, "it has failed again", func() bool { return k.count("ended with code 3") == 2 })
}

func TestAProgramThatIsNotThere(t *testing.T) {
	r := reaper(t)
	if _, err := r.Start("/no/such", []string{"x"}, &os.ProcAttr{}); err == nil || !strings.Contains(err.Error(), "/no/such") {
		t.Error(err)
	}
}
