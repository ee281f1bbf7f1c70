//go:build guest

package netboot

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/vm"
)

// TestTwo has two machines boot at once, with different firmware.
func TestTwo(t *testing.T) {
	// Whoever wants both places, and has one, waits for the other; so only one may want both.
	alone(t)
	vm.Slot(t, vm.Config{})
	vm.Slot(t, vm.Config{})
	site{mode: "dhcp", words: container}.serve(t)
	first, second := on(t, bios, 0), on(t, uefiROM, 1)
	first.runs("running", seenByServer...)
	second.runs("running", seenByServer...)
}

// alone waits until no other test on this computer wants more than one machine, until the test ends.
func alone(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(vm.Cache(), "guest.both.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}
