package nodestate

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processes lists the processes that have a path of the run directory among their arguments (the daemon, its shims) or sit in a cgroup
// of the instance (what runs in containers), and those that wait in the kernel for storage on behalf of one of the former. The number is
// no part of the key. The process that asks is left out.
func processes(f filter) ([]Item, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("nodestate: %w", err)
	}
	var items []Item
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		args, state, ok := describe(pid)
		if !ok || !f.owns(pid, args) && !f.waits(pid, args, state) {
			continue
		}
		items = append(items, Item{Process, strings.Join(args, " "), fmt.Sprintf("pid %d, state %s", pid, state), pid})
	}
	return items, nil
}

// describe reads a process's arguments, its name in brackets when it has none, and its state; false when it has gone. A zombie has no
// arguments and counts: somebody forgot to wait for it. One whose parent is init does not: init waits for it, in its own time.
func describe(pid int) (args []string, state string, ok bool) {
	stat, err := os.ReadFile(proc(pid, "stat"))
	if err != nil {
		return nil, "", false
	}
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open || len(stat) < end+3 {
		return nil, "", false
	}
	cmdline, err := os.ReadFile(proc(pid, "cmdline"))
	if err != nil {
		return nil, "", false
	}
	state = string(stat[end+2])
	if state == "Z" && bytes.HasPrefix(stat[end+3:], []byte(" 1 ")) {
		return nil, "", false
	}
	if cmdline = bytes.TrimRight(cmdline, "\x00"); len(cmdline) == 0 {
		return []string{"[" + string(stat[open+1:end]) + "]"}, state, true
	}
	return strings.Split(string(cmdline), "\x00"), state, true
}

func (f filter) owns(pid int, args []string) bool {
	for _, a := range args {
		_, value, _ := strings.Cut(a, "=")
		if own(f.runDir, a) || own(f.runDir, value) {
			return true
		}
	}
	groups, err := os.ReadFile(proc(pid, "cgroup"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(groups)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 && f.inCgroup(parts[2]) {
			return true
		}
	}
	return false
}

// waits says whether a process is one of those that do what may block in the kernel: it has no argument of the instance's, but a parent.
// One that outlives its daemon is init's, and cannot be killed; it is everybody's then.
func (f filter) waits(pid int, args []string, state string) bool {
	if len(args) != 2 || filepath.Base(args[0]) != "windlass-shim" || args[1] != "helper" {
		return false
	}
	above := parent(pid)
	if above <= 1 {
		return state == "D"
	}
	args, _, ok := describe(above)
	return ok && f.owns(above, args)
}

// parent gives the parent's number; 0 when the process has gone.
func parent(pid int) int {
	stat, err := os.ReadFile(proc(pid, "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	above, _ := strconv.Atoi(fields[1])
	return above
}

func own(dir, path string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// descriptors lists what a process has open. Numbers that differ from run to run are taken off.
func descriptors(pid int) ([]Item, error) {
	dir := proc(pid, "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("nodestate: descriptors of process %d: %w", pid, err)
	}
	var items []Item
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // closed while we looked
		}
		if kind, _, found := strings.Cut(target, ":["); found && kind != "anon_inode" {
			target = kind
		}
		items = append(items, Item{Class: Descriptor, Key: target, Detail: "fd " + e.Name()})
	}
	return items, nil
}

func proc(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }
