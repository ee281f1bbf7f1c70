package shim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// startClock makes a time namespace whose uptime begins now. What the calling thread clones next, without sharing memory, is in it;
// the offsets have to be written before and belong, in /proc, to the main thread, so that is where this is called.
func startClock() error {
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("make a time namespace: %w", err)
	}
	var mono, boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return fmt.Errorf("read the clock: %w", err)
	}
	offsets := fmt.Sprintf("monotonic -%d 0\nboottime -%d 0\n", mono.Sec, boot.Sec)
	if err := os.WriteFile("/proc/self/timens_offsets", []byte(offsets), 0); err != nil {
		return fmt.Errorf("set the clock of the time namespace: %w", err)
	}
	return nil
}
