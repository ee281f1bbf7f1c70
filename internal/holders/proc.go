package holders

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// match says whether what a process refers to is on the mount or the device.
type match func(*unix.Statx_t) bool

// pids lists the processes there are.
func pids() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var all []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func proc(pid int, rest ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(pid)}, rest...)...)
}

func comm(pid int) string {
	b, err := os.ReadFile(proc(pid, "comm"))
	if err != nil {
		return "gone"
	}
	return printable(strings.TrimRight(string(b), "\n"))
}

// stat asks about what a link of /proc leads to, without asking the file system behind it for anything fresh.
func stat(link string) (*unix.Statx_t, bool) {
	var st unix.Statx_t
	mask := unix.STATX_TYPE | unix.STATX_INO | unix.STATX_MNT_ID
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, mask, &st)
	return &st, err == nil
}

// mapsTimeout bounds how long it takes to look at what a process has mapped. The kernel holds a lock for that which one that waits in a
// page fault, for storage that does not answer, may have.
const mapsTimeout = 500 * time.Millisecond

// within calls fn and waits for it, but not longer than d; what it still does then goes on. False when it was left.
func within(d time.Duration, fn func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
		return false
	}
}

// searchProcesses reports every process that refers to something that matches. What processes have mapped comes last: looking at that can
// take all the time there is.
func searchProcesses(matches match, found *list) {
	var others []int
	for _, pid := range pids() {
		if found.stop() {
			return
		}
		if !searchPlaces(pid, matches, found) && !searchFiles(pid, matches, found) {
			others = append(others, pid)
		}
	}
	for _, pid := range others {
		if found.stop() {
			return
		}
		if kernelThread(pid) { // it maps nothing
			continue
		}
		if !within(mapsTimeout, func() { searchMaps(pid, matches, found) }) {
			found.add("perhaps %s, which cannot be looked at: it may wait for storage that does not answer", process(pid))
		}
	}
}

func kernelThread(pid int) bool {
	text, err := os.ReadFile(proc(pid, "stat"))
	return err == nil && flaggedThread(text)
}

// flaggedThread reads the flags of the process, which are field 9 of proc_pid_stat(5); the name before them may hold anything.
func flaggedThread(text []byte) bool {
	const flag = 0x00200000 // PF_KTHREAD of linux/sched.h
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(fields[6], 10, 64)
	return err == nil && flags&flag != 0
}

func searchPlaces(pid int, matches match, found *list) bool {
	any := false
	for _, p := range []struct{ link, what string }{{"cwd", "working directory"}, {"root", "root directory"}, {"exe", "program"}} {
		if st, ok := stat(proc(pid, p.link)); ok && matches(st) {
			found.add("%s: %s %s", process(pid), p.what, target(proc(pid, p.link)))
			any = true
		}
	}
	return any
}

func searchFiles(pid int, matches match, found *list) bool {
	dir, err := os.Open(proc(pid, "fd"))
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	any := false
	for _, name := range names {
		link := proc(pid, "fd", name)
		// Sockets and pipes have no path; asking about them would be in vain.
		if !strings.HasPrefix(target(link), "/") {
			continue
		}
		if st, ok := stat(link); ok && matches(st) {
			found.add("%s: open file %s", process(pid), target(link))
			any = true
		}
	}
	return any
}

// searchMaps looks at each mapped file once: a process has hundreds of mappings of few files.
func searchMaps(pid int, matches match, found *list) {
	b, err := os.ReadFile(proc(pid, "maps"))
	if err != nil {
		return
	}
	seen := map[string]bool{}
	for line := range bytes.Lines(b) {
		fields := strings.Fields(string(line))
		if len(fields) < 6 || !strings.HasPrefix(fields[5], "/") {
			continue
		}
		file := fields[3] + " " + fields[4]
		if seen[file] {
			continue
		}
		seen[file] = true
		link := proc(pid, "map_files", mapName(fields[0]))
		if st, ok := stat(link); ok && matches(st) {
			found.add("%s: mapped file %s", process(pid), target(link))
		}
	}
}

// mapName is the name in map_files of a range of maps: the same without leading zeros.
func mapName(r string) string {
	from, to, _ := strings.Cut(r, "-")
	trim := func(s string) string {
		if t := strings.TrimLeft(s, "0"); t != "" {
			return t
		}
		return "0"
	}
	return trim(from) + "-" + trim(to)
}

func target(link string) string {
	to, err := os.Readlink(link)
	if err != nil {
		return "gone"
	}
	return printable(to)
}
