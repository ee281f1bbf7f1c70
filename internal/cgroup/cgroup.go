// Package cgroup keeps a container's processes together and within limits.
//
// Every container has a cgroup of version 2, which is how it is killed, frozen and known to be empty:
//
//	<unified>/<parent>/<instance>/shim            the shims, so that they die with nothing else
//	<unified>/<parent>/<instance>/<id>            holds the limits, no process
//	<unified>/<parent>/<instance>/<id>/payload    the root of the container's cgroup namespace
//	<unified>/<parent>/<instance>/<id>/attach     what exec starts; made when first needed
//
// On a hybrid host the controllers are still version 1; what is limited is then limited at <controller>/<parent>/<instance>/<id>, and
// directories are made only there. The package owns these directories, never what lies beside them.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// The controllers that limits need.
var controllers = []string{"cpu", "memory", "pids"}

// Host is what cgroups this node has.
type Host struct {
	Unified string            // where version 2 is mounted
	Legacy  map[string]string // where those of our controllers are that are version 1
}

// Detect reads where cgroups are mounted.
func Detect() (Host, error) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return Host{}, fmt.Errorf("find the cgroups: %w", err)
	}
	h := Host{Legacy: map[string]string{}}
	for _, line := range strings.Split(string(data), "\n") {
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		switch f[2] {
		case "cgroup2":
			if h.Unified == "" {
				h.Unified = f[1]
			}
		case "cgroup":
			h.addLegacy(f[1], f[3])
		}
	}
	if h.Unified == "" {
		return Host{}, fault.Hintf(fault.New(fault.Unsupported, "no cgroup2 file system is mounted on this node"),
			"mount -t cgroup2 cgroup2 /sys/fs/cgroup (or /sys/fs/cgroup/unified beside version 1)")
	}
	return h, nil
}

func (h *Host) addLegacy(dir, options string) {
	for _, o := range strings.Split(options, ",") {
		for _, c := range controllers {
			if o == c {
				h.Legacy[c] = dir
			}
		}
	}
}

// Group is the cgroups of one container.
type Group struct {
	Dir    string            `json:"dir"`              // of version 2
	Legacy map[string]string `json:"legacy,omitempty"` // a directory a controller; each may be there or not
}

// Instance is the cgroup that holds all groups of one daemon.
func (h Host) Instance(parent, instance string) Group {
	g := Group{Dir: filepath.Join(h.Unified, parent, instance), Legacy: map[string]string{}}
	for c, dir := range h.Legacy {
		g.Legacy[c] = filepath.Join(dir, parent, instance)
	}
	return g
}

// Child is a group inside g.
func (g Group) Child(name string) Group {
	c := Group{Dir: filepath.Join(g.Dir, name), Legacy: map[string]string{}}
	for k, dir := range g.Legacy {
		c.Legacy[k] = filepath.Join(dir, name)
	}
	return c
}

// Payload is where the container's first process starts.
func (g Group) Payload() string { return filepath.Join(g.Dir, "payload") }

// Attach is where exec'd processes start.
func (g Group) Attach() string { return filepath.Join(g.Dir, "attach") }

// Limits are upper bounds; zero is none.
type Limits struct {
	Memory int64   // bytes
	CPU    float64 // processors
	Pids   int64   // processes and threads
}

// Create makes the group with its payload and sets the limits. What is there already is used.
func (g Group) Create(l Limits) error {
	if err := os.MkdirAll(g.Dir, 0o755); err != nil {
		return fmt.Errorf("make the cgroup: %w", err)
	}
	if len(g.Legacy) < len(controllers) {
		if err := g.delegate(); err != nil {
			return err
		}
	}
	if err := os.Mkdir(g.Payload(), 0o755); err != nil && !os.IsExist(err) {
		return fmt.Errorf("make the cgroup: %w", err)
	}
	if err := os.Chmod(g.Payload(), 0o755); err != nil { // the umask is the daemon's; who looks is in the container
		return fmt.Errorf("make the cgroup: %w", err)
	}
	return g.limit(l)
}

// delegate turns the controllers of version 2 on, from the root of the hierarchy down to g.
func (g Group) delegate() error {
	root := g.Dir
	for { // the topmost directory that is still a cgroup
		up := filepath.Dir(root)
		if _, err := os.Stat(filepath.Join(up, "cgroup.procs")); err != nil {
			break
		}
		root = up
	}
	available, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read what cgroup controllers there are: %w", err)
	}
	var want []string
	for _, c := range strings.Fields(string(available)) {
		if c == "cpu" || c == "memory" || c == "pids" || c == "io" {
			want = append(want, "+"+c)
		}
	}
	if len(want) == 0 {
		return nil
	}
	rel, err := filepath.Rel(root, g.Dir)
	if err != nil {
		return err
	}
	dir := root
	for _, e := range append([]string{"."}, strings.Split(rel, "/")...) {
		dir = filepath.Join(dir, e)
		if err := enable(dir, want); err != nil {
			return err
		}
	}
	return nil
}

func enable(dir string, want []string) error {
	file := filepath.Join(dir, "cgroup.subtree_control")
	have, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read cgroup controllers: %w", err)
	}
	on := map[string]bool{}
	for _, c := range strings.Fields(string(have)) {
		on["+"+c] = true
	}
	var missing []string
	for _, c := range want {
		if !on[c] {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err = write(dir, "cgroup.subtree_control", strings.Join(missing, " "))
	if errors.Is(err, unix.EBUSY) {
		return fault.Hintf(err, "processes live in %s itself; configure another cgroup parent, or move them to a leaf", dir)
	}
	return err
}

// limit writes the limits, in version 1 where that has the controller.
func (g Group) limit(l Limits) error {
	if l.Memory > 0 {
		if err := g.set("memory", "memory.max", "memory.limit_in_bytes", strconv.FormatInt(l.Memory, 10)); err != nil {
			return err
		}
		if g.Legacy["memory"] == "" { // without this the limit is memory plus all of swap
			_ = write(g.Dir, "memory.swap.max", "0") // not there on a kernel without swap accounting
		}
	}
	if l.Pids > 0 {
		if err := g.set("pids", "pids.max", "pids.max", strconv.FormatInt(l.Pids, 10)); err != nil {
			return err
		}
	}
	if l.CPU <= 0 {
		return nil
	}
	const period = 100_000 // µs, the kernel's default
	quota := max(int64(l.CPU*period), 1000)
	if g.Legacy["cpu"] == "" {
		return g.set("cpu", "cpu.max", "", fmt.Sprintf("%d %d", quota, period))
	}
	return g.set("cpu", "", "cpu.cfs_quota_us", strconv.FormatInt(quota, 10))
}

func (g Group) set(controller, v2, v1, value string) error {
	dir, file := g.Dir, v2
	if d := g.Legacy[controller]; d != "" {
		dir, file = d, v1
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the cgroup: %w", err)
		}
	}
	err := write(dir, file, value)
	if errors.Is(err, os.ErrNotExist) {
		return fault.New(fault.Unsupported, "limit %s: the kernel offers no %s controller at %s: %w", controller, controller, dir, err)
	}
	return err
}

// Joins lists the directories of version 1 that a process of the group has to be put into.
func (g Group) Joins() []string {
	var dirs []string
	for _, c := range controllers {
		if d := g.Legacy[c]; d != "" {
			if _, err := os.Stat(d); err == nil {
				dirs = append(dirs, d)
			}
		}
	}
	return dirs
}

// Chown gives the payload to a user, who then may make cgroups below it.
func (g Group) Chown(uid, gid int) error {
	for _, f := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		if err := os.Chown(filepath.Join(g.Payload(), f), uid, gid); err != nil {
			return fmt.Errorf("delegate the cgroup: %w", err)
		}
	}
	return nil
}

func write(dir, file, value string) error {
	path := filepath.Join(dir, file)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return fmt.Errorf("write %q to %s: %w", value, path, err)
	}
	return nil
}
