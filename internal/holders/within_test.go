package holders

import (
	"os"
	"testing"
	"time"
)

// A process that cannot be looked at holds up the search for a moment only.
func TestWithin(t *testing.T) {
	hangs := make(chan struct{})
	defer close(hangs)
	if within(time.Millisecond, func() { <-hangs }) {
		t.Error("what hangs is said to have ended")
	}
	looked := false
	if !within(time.Minute, func() { looked = true }) || !looked {
		t.Error("what does not hang was not waited for")
	}
}

// Threads of the kernel are no suspects.
func TestKernelThread(t *testing.T) {
	for text, want := range map[string]bool{
		"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 1 0 0":                     true,
		"29 (khungtaskd) D 2 0 0 0 -1 2097216 0":                                true,
		"713 (a) S 0 0 0 0 -1 2129984) S 1 713 713 0 -1 4194560 1529 26364 4 0": false,
		"7 (cut) S 0 0": false,
		"":              false,
	} {
		if got := flaggedThread([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if kernelThread(os.Getpid()) {
		t.Error("this process is a thread of the kernel")
	}
}
