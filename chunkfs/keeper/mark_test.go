package keeper

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTheMarkIsPassedOn looks where systemd does: at what the processes are called.
func TestTheMarkIsPassedOn(t *testing.T) {
	for mark, name := range map[string]string{"": "windlass-shim", Mark: Mark + "windlass-shim"} {
		w := startAs(t, name, "wait")
		var pid, n int
		for i := 1; i <= 2; i++ { // the one that is started again, too
			if _, err := fmt.Sscan(w.lines(t, i)[i-1], &pid, &n); err != nil {
				t.Fatal(err)
			}
			called, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if err != nil || !strings.HasPrefix(string(called), mark+os.Args[0]+"\x00wait\x00") {
				t.Errorf("of a keeper called %s: the server is called %q, %v", name, called, err)
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
}
