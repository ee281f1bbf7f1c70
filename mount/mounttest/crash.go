package mounttest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/failpoint"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// orderVar is the variable that makes the test binary a child and tells it what to do.
const orderVar = "WINDLASS_MOUNTTEST_ORDER"

// order is what a child does.
type order struct {
	Unmount bool // else mount
	ID      mount.ID
	Spec    *models.Mount
	Below   []mount.Layer
	Target  mount.Target
	Timeout time.Duration // of the context; 0: none
}

// Main is the body of TestMain: it runs the tests, or what one of them has ordered of this process. Both run in a mount namespace of
// their own.
func Main(m *testing.M, newDriver func() mount.Driver) {
	text := os.Getenv(orderVar)
	switch {
	case os.Getenv(namespaceVar) == "":
		os.Exit(inNamespace())
	case text == "":
		if err := forgetOthers(); err != nil {
			fmt.Fprintln(os.Stderr, "mounttest:", err)
			os.Exit(2)
		}
		os.Exit(m.Run())
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println("order:", err)
		os.Exit(2)
	}
	fmt.Println("start")
	if err := o.carryOut(newDriver()); err != nil {
		fmt.Println("failed:", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
	fmt.Println("done")
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed, or told to end
	os.Exit(0)
}

func (o order) carryOut(d mount.Driver) error {
	ctx := context.Background()
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	if o.Unmount {
		return d.Unmount(ctx, mount.Active{ID: o.ID, Target: o.Target}, false)
	}
	_, err := d.Mount(ctx, o.ID, o.Spec, o.Below, o.Target)
	return err
}

// child is a process that carries out an order.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

func (f fixture) order(t testing.TB, unmount bool) order {
	return order{Unmount: unmount, ID: 1, Spec: f.Spec, Below: f.Below, Target: f.target(t, 1)}
}

func (f fixture) child(t testing.TB, o order, env ...string) *child {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), orderVar+"="+string(text)), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &child{cmd, stdin, bufio.NewReader(stdout)}
}

// line waits for the next line; "" when the child has ended.
func (c *child) line() string {
	s, _ := c.out.ReadString('\n')
	return strings.TrimSuffix(s, "\n")
}

func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// end lets the child run to its end and gives its last line.
func (c *child) end() string {
	last := ""
	for {
		line := c.line()
		if line == "" {
			_ = c.stdin.Close()
			_ = c.cmd.Wait()
			return last
		}
		if last = line; line == "done" {
			_ = c.stdin.Close()
		}
	}
}

// points lists the failpoints that an order passes, such as `mount.move:before#1`. What it did is taken back.
func (f fixture) points(t *testing.T, o order) []string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	if last := f.child(t, o, "WINDLASS_FAILPOINT_TRACE="+trace).end(); last != "done" {
		t.Fatalf("the order failed: %s", last)
	}
	f.unmount(t, mount.Active{ID: o.ID, Target: o.Target})
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatalf("no failpoint was passed, the driver does not use step.Do: %v", err)
	}
	count := map[string]int{}
	var all []string
	for _, name := range strings.Fields(string(b)) {
		count[name]++
		all = append(all, fmt.Sprintf("%s#%d", name, count[name]))
	}
	return all
}

// kills carries out an order and kills the process that does, at every failpoint or at moments of chance, and calls after each time.
func (f fixture) kills(t *testing.T, o order, before func(), after func(what string)) {
	if failpoint.Enabled {
		before()
		for _, point := range f.points(t, o) {
			before()
			f.child(t, o, "WINDLASS_FAILPOINT="+point+"=kill").end()
			after("killed at " + point)
		}
	} else {
		for n := range 20 {
			before()
			c := f.child(t, o)
			c.line()
			time.Sleep(time.Duration(n) * 100 * time.Microsecond)
			c.kill()
			after(fmt.Sprintf("killed after %d µs", n*100))
		}
	}
	before()
	c := f.child(t, o)
	for range 2 {
		c.line()
	}
	c.kill()
	after("killed when done")
}

func killed(t *testing.T, f fixture) {
	o := f.order(t, false)
	f.kills(t, o, func() { f.target(t, 1) }, func(what string) {
		a, state, err := f.driver.Probe(t.Context(), 1, f.Spec, o.Target)
		if err != nil {
			t.Errorf("%s: probe: %v", what, err)
		}
		if state == mount.Ready {
			f.wantReady(t, a)
		} else if what == "killed when done" {
			t.Errorf("%s: state %d, want ready", what, state)
		}
		f.cleanUp(t, what, o.Target)
	})
}

// cleanUp does as the chain does after a crash: unmount by id and target, then remove the mountpoint.
func (f fixture) cleanUp(t *testing.T, what string, target mount.Target) {
	t.Helper()
	f.unmount(t, mount.Active{ID: 1, Target: target})
	if _, state, err := f.driver.Probe(t.Context(), 1, f.Spec, target); err != nil || state != mount.Gone {
		t.Errorf("%s: after unmount state %d, %v", what, state, err)
	}
	if err := os.Remove(target.Dir); err != nil && !os.IsNotExist(err) {
		t.Errorf("%s: %v", what, err)
	}
	f.wantGone(t, 1)
}

func killedUnmounting(t *testing.T, f fixture) {
	o := f.order(t, true)
	f.kills(t, o, func() { f.mount(t, 1) }, func(what string) {
		if a, state, _ := f.driver.Probe(t.Context(), 1, f.Spec, o.Target); state == mount.Ready {
			f.wantReady(t, a)
		}
		f.cleanUp(t, what, o.Target)
	})
}

// failing makes each step fail, and hang until the context ends. Only a build with failpoints can.
func failing(t *testing.T, f fixture) {
	if !failpoint.Enabled {
		return
	}
	for _, unmount := range []bool{false, true} {
		o := f.order(t, unmount)
		if unmount {
			f.mount(t, 1)
		}
		points := f.points(t, o)
		o.Timeout = 100 * time.Millisecond
		for _, point := range points {
			for _, action := range []string{"error", "hang"} {
				f.fail(t, o, point, action)
			}
		}
	}
}

func (f fixture) fail(t *testing.T, o order, point, action string) {
	t.Helper()
	if o.Unmount {
		f.mount(t, 1)
	}
	last := f.child(t, o, "WINDLASS_FAILPOINT="+point+"="+action).end()
	if !strings.HasPrefix(last, "failed: ") || !strings.Contains(last, "failpoint") {
		t.Errorf("%s, %s: the child said %q", point, action, last)
	}
	if o.Unmount { // it can be tried again
		if a, state, _ := f.driver.Probe(t.Context(), 1, f.Spec, o.Target); state == mount.Ready {
			f.wantReady(t, a)
		}
		f.unmount(t, mount.Active{ID: 1, Target: o.Target})
	}
	f.wantGone(t, 1)
}
