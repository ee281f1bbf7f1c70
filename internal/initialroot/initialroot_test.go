package initialroot

import (
	"os"
	"testing"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// TestAnotherNodeIsLeftAlone; what happens on an initial root is seen in test/initboot, in a guest.
func TestAnotherNodeIsLeftAlone(t *testing.T) {
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	initial, err := Prepare(t.Context())
	if initial || err != nil {
		t.Errorf("%v, %v", initial, err)
	}
	after, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || string(before) != string(after) {
		t.Errorf("what is mounted has changed: %v", err)
	}
}

func TestTheInitialRootIsMountedOnItself(t *testing.T) {
	root := &mountinfo.Info{ID: 1, Parent: 1, Mountpoint: "/"}
	proc := &mountinfo.Info{ID: 5, Parent: 1, Mountpoint: "/proc"}
	if !initial([]*mountinfo.Info{proc, root}) || initial([]*mountinfo.Info{proc, {ID: 8, Parent: 1, Mountpoint: "/"}}) {
		t.Error("an initial root is not told from another")
	}
}
