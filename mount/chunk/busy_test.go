package chunk_test

import (
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
)

// TestUnmountedButUsedElsewhere has a mount namespace that keeps the mount: it is not as before, so it must not be taken for mounted.
func TestUnmountedButUsedElsewhere(t *testing.T) {
	f := newFake(t)
	d, target := f.driver(), mounttest.Place(t)
	a, err := d.Mount(t.Context(), 1, spec(nil), nil, target)
	if err != nil {
		t.Fatal(err)
	}
	f.busy = fault.Hintf(fault.New(fault.Busy, "device file 1 is in use"), "unmount it everywhere")
	err = d.Unmount(t.Context(), a, false)
	if !fault.Is(err, fault.BadState) || !strings.Contains(err.Error(), "in use") || fault.HintOf(err) != "unmount it everywhere" {
		t.Errorf("got %v (%s, %q)", err, fault.KindOf(err), fault.HintOf(err))
	}
	if _, state, err := d.Probe(t.Context(), 1, nil, target); err != nil || state != mount.Partial {
		t.Errorf("state %v, %v", state, err)
	}
	f.busy = nil
	if err := d.Unmount(t.Context(), a, false); err != nil {
		t.Error(err)
	}
	wantGone(t, d, target)
}
