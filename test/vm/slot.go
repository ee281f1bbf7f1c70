package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slots is how many guests may run on this machine at once: more of them hinder each other on two cores.
const slots = 2

// Slot waits until one more guest may run on this machine, first come first served, and keeps the place until the test has ended. When it has
// to wait it builds before what the guest is to run, so that mistakes show at once.
func Slot(t testing.TB, c Config) {
	t.Helper()
	queue := lockFile(t, "guest.queue.lock")
	defer queue.Close()
	if unix.Flock(int(queue.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil && free(t) {
		return
	}
	programs(t, t.TempDir(), c)
	t.Logf("waiting: %d guests run on this machine already", slots)
	begun := time.Now()
	if err := unix.Flock(int(queue.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for !free(t) {
		time.Sleep(100 * time.Millisecond) // the kernel cannot wait for one of two locks
	}
	t.Logf("waited %.0f s", time.Since(begun).Seconds())
}

// free takes a slot when there is one.
func free(t testing.TB) bool {
	t.Helper()
	for n := range slots {
		f := lockFile(t, fmt.Sprintf("guest.%d.lock", n))
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			t.Cleanup(func() { f.Close() })
			return true
		}
		f.Close()
	}
	return false
}

func lockFile(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(Cache(), name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
