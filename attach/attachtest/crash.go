package attachtest

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

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/failpoint"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// orderVar is the variable that makes the test binary a child and tells it what to do.
const orderVar = "WINDLASS_ATTACHTEST_ORDER"

// order is what a child does.
type order struct {
	Instance string
	Detach   bool // else attach
	ID       attach.ID
	Spec     *models.Attach
	Timeout  time.Duration // of the context; 0: none
}

// Main is the body of TestMain: it runs the tests, or what one of them has ordered of this process.
func Main(m *testing.M, s Suite) {
	text := os.Getenv(orderVar)
	if text == "" {
		os.Exit(m.Run())
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println("order:", err)
		os.Exit(2)
	}
	fmt.Println("start")
	if err := o.carryOut(s.New(o.Instance)); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("done")
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed, or told to end
	os.Exit(0)
}

func (o order) carryOut(d attach.Driver) error {
	ctx := context.Background()
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	if o.Detach {
		return d.Detach(ctx, attach.Device{ID: o.ID}, false)
	}
	_, err := d.Attach(ctx, o.ID, o.Spec, root())
	return err
}

// child is a process that carries out an order.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

func (f fixture) child(t testing.TB, o order, env ...string) *child {
	t.Helper()
	o.Instance = f.instance
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

// points lists the failpoints that an order passes, such as `loopback.configure:before#1`. What it did is taken back.
func (f fixture) points(t *testing.T, o order) []string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	if last := f.child(t, o, "WINDLASS_FAILPOINT_TRACE="+trace).end(); last != "done" {
		t.Fatalf("the order failed: %s", last)
	}
	f.detach(t, attach.Device{ID: o.ID})
	b, err := os.ReadFile(trace)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	count := map[string]int{}
	var all []string
	for _, name := range strings.Fields(string(b)) {
		count[name]++
		all = append(all, fmt.Sprintf("%s#%d", name, count[name]))
	}
	if !f.Passive && len(all) == 0 {
		t.Fatal("no failpoint was passed: the driver does not use step.Do")
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
			time.Sleep(time.Duration(n) * 50 * time.Microsecond)
			c.kill()
			after(fmt.Sprintf("killed after %d µs", n*50))
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
	spec := f.Spec(t, f.image)
	f.kills(t, order{ID: 1, Spec: spec}, func() {}, func(what string) {
		dev, state := f.probe(t, 1, spec)
		if state == attach.Ready {
			check(t, dev, f.content)
		} else if what == "killed when done" {
			t.Errorf("%s: state %d, want ready", what, state)
		}
		if state != attach.Gone {
			f.detach(t, dev)
		}
		f.wantGone(t, 1, spec)
	})
}

func killedDetaching(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	attached := func() { f.attach(t, 1, spec) }
	f.kills(t, order{ID: 1, Spec: spec, Detach: true}, attached, func(what string) {
		if dev, state := f.probe(t, 1, spec); state == attach.Ready {
			check(t, dev, f.content)
		}
		f.detach(t, attach.Device{ID: 1})
		f.wantGone(t, 1, spec)
	})
}

// failing makes each step fail, and hang until the context ends. Only a build with failpoints can.
func failing(t *testing.T, f fixture) {
	if !failpoint.Enabled {
		return
	}
	spec := f.Spec(t, f.image)
	for _, point := range f.points(t, order{ID: 1, Spec: spec}) {
		for _, action := range []string{"error", "hang"} {
			o := order{ID: 1, Spec: spec, Timeout: 100 * time.Millisecond}
			last := f.child(t, o, "WINDLASS_FAILPOINT="+point+"="+action).end()
			if !strings.HasPrefix(last, "failed: ") || !strings.Contains(last, "failpoint") {
				t.Errorf("%s, %s: the child said %q", point, action, last)
			}
			f.wantGone(t, 1, spec)
		}
	}
}
