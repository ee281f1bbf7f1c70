package holders

import (
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
