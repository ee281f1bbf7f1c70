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

// slot waits until a guest may run, and keeps the place until the test has ended.
func slot(t testing.TB) {
	t.Helper()
	for told := false; ; time.Sleep(200 * time.Millisecond) { // the kernel cannot wait for one of two locks
		for n := range slots {
			f, err := os.OpenFile(filepath.Join(Cache(), fmt.Sprintf("guest.%d.lock", n)), os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
				t.Cleanup(func() { f.Close() })
				return
			}
			f.Close()
		}
		if !told {
			t.Logf("waiting: %d guests run on this machine already", slots)
			told = true
		}
	}
}
