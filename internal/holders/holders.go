// Package holders says who keeps a mount or a block device busy, in words for a person.
//
// The kernel answers EBUSY without a reason. This package looks for one in /proc and /sys, after the fact: what it finds is true of
// the moment it looked, and it may find nothing. It only reads, it never decides: whether something is busy is the kernel's word.
package holders

import (
	"fmt"
	"strings"
	"time"
)

const (
	// limit is how many holders are named; more would not help anybody.
	limit = 16
	// timeout bounds a search. A descriptor on dead network storage can block the search for ever; it is then left behind.
	timeout = 2 * time.Second
)

// OfMount says who keeps the mount with this id busy: processes with a directory, a program, an open or a mapped file on it, mounts
// on top of it, loop devices and swap on its files. path is its mountpoint as this process sees it. A text looks like
//
//	pid 123 (bash): working directory /x
//	pid 7 (dd): open file /x/a
//	mount 45 at /x/proc in the mount namespace of pid 9 (systemd)
//	loop device /dev/loop3 on /x/image.squashfs
func OfMount(mountID uint64, path string) []string {
	return bounded(func(found *list) { searchMount(mountID, path, found) })
}

// OfDevice says who keeps the block device with this device number (st_rdev), or one of its partitions, busy: mounts in any mount
// namespace, processes that have it open, devices made of it, swap. A text looks like
//
//	mount 45 at /x in the mount namespace of pid 1 (systemd)
//	pid 7 (dd): open file /dev/loop3
//	block device dm-0 (vg-root) on loop3
func OfDevice(devnum uint64) []string {
	return bounded(func(found *list) { searchDevice(devnum, found) })
}

// Text joins holders for an error message; it says so when nobody was found.
func Text(holders []string) string {
	if len(holders) == 0 {
		return "nobody that could be found in /proc (a layer of an overlay, such as of a container's root, does not show there)"
	}
	return strings.Join(holders, "; ")
}

// bounded runs a search and gives what it has found when it ends or the time is up.
func bounded(search func(*list)) []string {
	found := newList(limit)
	if !within(timeout, func() { search(found) }) {
		found.add("the search took too long and was left: there may be more")
	}
	return found.close()
}

func process(pid int) string { return fmt.Sprintf("pid %d (%s)", pid, comm(pid)) }
