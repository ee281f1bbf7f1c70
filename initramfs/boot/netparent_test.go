package boot

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/initramfs/boot/network"
)

// What the network's process says is taken however long a line is and however often it says that it is ready: init would have to start it
// again for ever, or end of a channel that is closed twice.
func TestWhatTheNetworkSaysIsTaken(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	said := &text{}
	p := &networkProcess{say: func(f string, a ...any) { fmt.Fprintf(said, f+"\n", a...) }, ready: make(chan struct{})}
	long := strings.Repeat("a", 200<<10)
	wrote := make(chan error, 1)
	go func() {
		defer out.Close()
		enc := json.NewEncoder(out)
		for _, e := range []netEvent{{Ready: &network.Settings{}}, {Ready: &network.Settings{}}, {Say: long}, {Say: "still here"}} {
			if err := enc.Encode(e); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	ended := make(chan struct{})
	go func() { defer close(ended); p.listen(in) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("it listens on after the end")
	}
	in.Close()
	if err := <-wrote; err != nil {
		t.Errorf("the process could not say what it had to: %v", err)
	}
	if !strings.HasSuffix(said.String(), "\nstill here\n") {
		t.Errorf("%d bytes were taken, not all that was said", len(said.String()))
	}
	select {
	case <-p.ready:
	default:
		t.Error("it is not ready")
	}
}
