// Package crashtest lets a test kill the code under test in the middle: the test binary is started once more as a process that carries out
// an order, and is killed there at every failpoint, or at moments of chance in a build without them. It is for the conformance suites of
// drivers, and knows nothing of what an order does.
package crashtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// orderVar is the variable that makes the test binary a child and tells it what to do.
const orderVar = "WINDLASS_CRASHTEST_ORDER"

// stopSignal ends the context of a child.
const stopSignal = syscall.SIGUSR1

// doneLine is what a child says when it has carried out its order, and failedMark is what begins its last line when it could not.
const (
	doneLine   = "done"
	failedMark = "failed: "
)

// obey comes before the tests are run. In a child it carries out the order that it was started with and
// ends the process; elsewhere it returns at once. The context ends with stopSignal.
func obey[Order any](carryOut func(context.Context, Order) error) {
	text := os.Getenv(orderVar)
	if text == "" {
		return
	}
	var o Order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Println("order:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), stopSignal)
	defer stop()
	fmt.Println("start")
	if err := carryOut(ctx, o); err != nil {
		fmt.Println(failedMark + strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
	fmt.Println(doneLine)
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed, or told to end
	os.Exit(0)
}

// child is a process that carries out an order.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

// start starts a child with the order, which is passed as JSON.
func start(t testing.TB, order any, env ...string) *child {
	t.Helper()
	text, err := json.Marshal(order)
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
		if last = line; line == doneLine {
			_ = c.stdin.Close()
		}
	}
}
