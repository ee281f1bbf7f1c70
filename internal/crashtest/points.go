package crashtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/failpoint"
)

// The variables that internal/failpoint is armed by.
const (
	armVar   = "WINDLASS_FAILPOINT"
	traceVar = "WINDLASS_FAILPOINT_TRACE"
)

// Done is what After hears of when a child is killed that has carried out its order.
const Done = "killed when done"

// Course is how an order is killed.
type Course struct {
	Order  any               // what the child does; it goes to it as JSON
	Before func()            // before each child: makes what the order needs
	Undo   func()            // takes back what a child did that was not killed
	After  func(what string) // after each kill: looks at what is left, and clears it
	Pause  time.Duration     // what a kill by chance is later than the one before it
	// Passive says that the order may pass no failpoint; else that is a fault of the driver.
	Passive bool
}

// Kill carries out the order in one child after another and kills each, at another failpoint or at another moment of chance, and at last
// one that has carried it out.
func (c Course) Kill(t *testing.T) {
	t.Helper()
	if failpoint.Enabled {
		c.Before()
		for _, point := range c.Points(t) {
			c.Before()
			start(t, c.Order, armVar+"="+point+"=kill").end()
			c.After("killed at " + point)
		}
	} else {
		for n := range 20 {
			c.Before()
			child := start(t, c.Order)
			child.line()
			pause := time.Duration(n) * c.Pause
			time.Sleep(pause) // the moment of chance
			child.kill()
			c.After(fmt.Sprintf("killed after %s", pause))
		}
	}
	c.Before()
	child := start(t, c.Order)
	child.line()
	last := child.line()
	child.kill()
	if last != doneLine {
		t.Errorf("the order failed: %s", last)
	}
	c.After(Done)
}

// Points lists the failpoints that the order passes, such as `loopback.configure:before#1`. It takes a build with failpoints.
func (c Course) Points(t testing.TB) []string {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	if last := start(t, c.Order, traceVar+"="+trace).end(); last != doneLine {
		t.Fatalf("the order failed: %s", last)
	}
	c.Undo()
	all := Traced(t, trace)
	if !c.Passive && len(all) == 0 {
		t.Fatal("no failpoint was passed: the driver does not use step.Do")
	}
	return all
}

// Traced reads what a process has written to the file that WINDLASS_FAILPOINT_TRACE named: each point as NAME#N, the Nth time that it was
// reached. There are none while there is no file.
func Traced(t testing.TB, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	count := map[string]int{}
	var all []string
	for name := range strings.FieldsSeq(string(data)) {
		count[name]++
		all = append(all, fmt.Sprintf("%s#%d", name, count[name]))
	}
	return all
}

// failWait is how long an order may take to fail, or to come to the point where it hangs.
const failWait = time.Minute

// Fail carries out the order in a child in which the point fails (action error) or hangs (hang) until the context ends, which it does as soon
// as the point is reached; the order must fail there. It takes a build with failpoints.
func Fail(t testing.TB, order any, point, action string) {
	t.Helper()
	trace := filepath.Join(t.TempDir(), "trace")
	child := start(t, order, armVar+"="+point+"="+action, traceVar+"="+trace)
	end := make(chan string, 1)
	go func() { end <- child.end() }()
	tick, late := time.NewTicker(time.Millisecond), time.After(failWait)
	defer tick.Stop()
	for stopped := false; ; {
		select {
		case last := <-end:
			if !strings.HasPrefix(last, failedMark) || !strings.Contains(last, "failpoint") {
				t.Errorf("%s, %s: the child said %q", point, action, last)
			}
			return
		case <-late:
			_ = child.cmd.Process.Kill()
			t.Errorf("%s, %s: the child was killed after %s; it said %q", point, action, failWait, <-end)
			return
		case <-tick.C:
			if action == "hang" && !stopped && slices.Contains(Traced(t, trace), point) {
				stopped = true
				_ = child.cmd.Process.Signal(stopSignal)
			}
		}
	}
}
