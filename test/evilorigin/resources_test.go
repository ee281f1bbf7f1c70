package evilorigin_test

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// held is what the process has of what can leak.
type held struct{ goroutines, descriptors int }

func resources(t testing.TB) held {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return held{runtime.NumGoroutine(), len(entries)}
}

// backTo waits until no more is held than at the beginning.
func (h held) backTo(t testing.TB) {
	t.Helper()
	var now held
	for range 200 {
		if now = resources(t); now.goroutines <= h.goroutines && now.descriptors <= h.descriptors {
			return
		}
		time.Sleep(10 * time.Millisecond) // goroutines end when they end
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	t.Errorf("%+v are held, %+v at the beginning:\n%s", now, h, strings.TrimSpace(string(stacks)))
}
