//go:build lab

package panics

import (
	"os"
	"testing"
	"time"
)

func TestPanic(t *testing.T) {
	if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute) // it is over at any moment
}
