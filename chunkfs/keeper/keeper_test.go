package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roleEnv has the test binary be a keeper, or a server of one, instead.
const roleEnv = "WINDLASS_KEEPER_TEST"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(roleEnv) {
	case "":
		os.Exit(m.Run())
	case "keeper":
		os.Setenv(roleEnv, "server")
		err = Run(os.Args[1:])
	case "server":
		err = server(os.Args[1], os.Args[2])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// server does what it is told and writes a line for each of its starts to the file.
func server(what, file string) error {
	c, err := Connect()
	if err != nil {
		return err
	}
	say := func(format string, args ...any) {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err == nil {
			fmt.Fprintf(f, "%d %d "+format+"\n", append([]any{os.Getpid(), c.Start}, args...)...)
			f.Close()
		}
	}
	switch what {
	case "pipes":
		return pipes(c, say)
	case "fail": // after having served once
		if c.Start == 1 {
			if err := c.Up(); err != nil {
				return err
			}
		}
		say("fails")
		return errors.New("it does not come up")
	case "never":
		say("fails")
		return errors.New("it never comes up")
	case "wait":
		if err := c.Up(); err != nil {
			return err
		}
		say("up")
		time.Sleep(time.Hour)
	case "limit":
		say("%v", overfill(c))
	}
	return nil
}

// pipes keeps a pipe through three starts: written in the first, dropped and looked for in the second, ended in the third.
func pipes(c *Client, say func(string, ...any)) error {
	switch c.Start {
	case 1:
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		_, err = w.WriteString("from the first")
		if err := errors.Join(err, c.Store("r", int(w.Fd())), c.Store("r", int(r.Fd())), c.Store("gone", int(r.Fd())), c.Drop("gone"), c.Drop("unknown"), c.Up()); err != nil {
			return err
		}
	case 2:
		all := c.Stored()
		if len(all) != 1 || all["r"] == nil {
			return fmt.Errorf("%d descriptors are stored", len(all))
		}
		b, err := io.ReadAll(all["r"]) // nobody has the other end any more
		say("%q %v", b, err)
		if err := c.Drop("r"); err != nil {
			return err
		}
	case 3:
		say("%d", len(c.Stored()))
		return nil
	}
	return unix.Kill(os.Getpid(), unix.SIGKILL)
}

// overfill stores too much, and names that are none.
func overfill(c *Client) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	for i := range MaxStored {
		if err := c.Store(fmt.Sprint(i), int(null.Fd())); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
	}
	if err := c.Store("0", int(null.Fd())); err != nil {
		return fmt.Errorf("in place of another: %w", err)
	}
	if c.Store("a b", int(null.Fd())) == nil || c.Store("", int(null.Fd())) == nil {
		return errors.New("names that are none were taken")
	}
	return c.Store("one-more", int(null.Fd()))
}

type world struct {
	dir, file string
	cmd       *exec.Cmd
	ended     chan error
}

func start(t *testing.T, what string) *world {
	t.Helper()
	return startAs(t, os.Args[0], what)
}

// startAs starts a keeper that is called so.
func startAs(t *testing.T, name, what string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{dir: dir, file: filepath.Join(dir, "said"), ended: make(chan error, 1)}
	w.cmd = exec.Command(os.Args[0], "--lock="+filepath.Join(dir, "lock"), "--log", filepath.Join(dir, "log"), "--", os.Args[0], what, w.file)
	w.cmd.Args[0], w.cmd.Env = name, append(os.Environ(), roleEnv+"=keeper")
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.ended <- w.cmd.Wait() }()
	t.Cleanup(func() {
		_ = unix.Kill(-w.cmd.Process.Pid, unix.SIGKILL) // the session: keeper and server
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("the log:\n%s", b)
		}
	})
	return w
}

// end waits for the keeper's.
func (w *world) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.ended:
		w.ended <- err
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the keeper does not end")
		return nil
	}
}

// lines waits until the servers have written so many.
func (w *world) lines(t *testing.T, n int) []string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		b, _ := os.ReadFile(w.file)
		if all := strings.Split(strings.TrimSpace(string(b)), "\n"); len(all) >= n && all[0] != "" {
			return all
		}
	}
	t.Fatalf("fewer than %d lines", n)
	return nil
}

func TestDescriptorsOutliveTheServer(t *testing.T) {
	w := start(t, "pipes")
	if err := w.end(t); err != nil {
		t.Fatal(err)
	}
	lines := w.lines(t, 2)
	if len(lines) != 2 || !strings.HasSuffix(lines[0], `2 "from the first" <nil>`) || !strings.HasSuffix(lines[1], "3 0") {
		t.Errorf("the servers said %q", lines)
	}
}

func TestNoMoreThanTheMost(t *testing.T) {
	w := start(t, "limit")
	if err := w.end(t); err != nil {
		t.Fatal(err)
	}
	if lines := w.lines(t, 1); !strings.Contains(lines[0], "refused to store one-more: 4096 descriptors are held, of at most 4096") {
		t.Errorf("the server said %q", lines)
	}
}

// TestKilledServerComesBackAtOnce looks at how long it takes from the death to the next one's first words.
func TestKilledServerComesBackAtOnce(t *testing.T) {
	w := start(t, "wait")
	quickest := time.Hour
	for i := 1; i <= 5; i++ {
		var pid, n int
		lines := w.lines(t, i)
		if _, err := fmt.Sscan(lines[i-1], &pid, &n); err != nil || n != i {
			t.Fatalf("the server said %q", lines)
		}
		time.Sleep(settled + 50*time.Millisecond) // so that it counts as a good one
		began := time.Now()
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		w.lines(t, i+1)
		quickest = min(quickest, time.Since(began))
	}
	t.Logf("figure: killed server of the keeper: the next one serves after %v (the quickest of 5)", quickest.Round(100*time.Microsecond))
	if quickest > 500*time.Millisecond {
		t.Error("that is not at once")
	}
}

// TestServerThatFails is started ever more slowly, and SIGTERM ends the keeper of one that is not there.
func TestServerThatFails(t *testing.T) {
	w := start(t, "fail")
	began := time.Now()
	w.lines(t, 6) // pauses of 0, 10, 20, 40 and 80 ms
	if took := time.Since(began); took < 150*time.Millisecond {
		t.Errorf("six starts in %v", took)
	}
	for i := range 1000 { // one may find a server, which dies of it
		if err := w.cmd.Process.Signal(unix.SIGTERM); err != nil {
			break
		}
		select {
		case err := <-w.ended:
			if err == nil {
				t.Error("the keeper is content")
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
		if i == 999 {
			t.Error("the keeper does not end")
		}
	}
}

// TestServerThatNeverServed is not tried for ever: who had it started wants to know.
func TestServerThatNeverServed(t *testing.T) {
	w := start(t, "never")
	if w.end(t) == nil {
		t.Error("the keeper is content")
	}
	if lines := w.lines(t, 1); len(lines) != 1 {
		t.Errorf("it was started %d times", len(lines))
	}
}

func TestSecondKeeperIsRefused(t *testing.T) {
	w := start(t, "wait")
	w.lines(t, 1)
	second := func() (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "--lock", filepath.Join(w.dir, "lock"), "--", os.Args[0], "wait", w.file)
		cmd.Env = append(os.Environ(), roleEnv+"=keeper")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := second(); err == nil || !strings.Contains(out, "another keeper") {
		t.Errorf("beside a keeper: %v %s", err, out)
	}
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if w.end(t) == nil {
		t.Error("it was killed and ended well")
	}
	if out, err := second(); err == nil || !strings.Contains(out, "another keeper") {
		t.Errorf("beside a server that its keeper left: %v %s", err, out)
	}
}

func TestSignalsReachTheServer(t *testing.T) {
	w := start(t, "wait")
	w.lines(t, 1)
	if err := w.cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.lines(t, 2) // it died of the signal, which is no good end, and was started again
}

func TestLogStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("x", 1000) + "\n"
	for range 5000 {
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	l.printf("the last %s", "words")
	b, err := os.ReadFile(path)
	if err != nil || len(b) > maxLog+2000 || len(b) < maxLog/2 || !strings.HasSuffix(string(b), "keeper: the last words\n") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"--"}, {"--name", "x", "--", "true"}, {"--lock"}} {
		if err := Run(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

func TestWithoutKeeper(t *testing.T) {
	c, err := Connect()
	if err != nil || c.Kept() || c.Start != 0 || len(c.Stored()) != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := errors.Join(c.Store("x", 0), c.Drop("x"), c.Up()); err != nil {
		t.Error(err)
	}
}
