package holders

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// blockDevice is a device or partition as sysfs and mountinfo know it.
type blockDevice struct {
	name         string // such as loop3p1
	major, minor uint32
}

func (d blockDevice) node() string { return "/dev/" + d.name }

// device gives the device and its partitions.
func device(devnum uint64) []blockDevice {
	major, minor := unix.Major(devnum), unix.Minor(devnum)
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", major, minor))
	if err != nil {
		return []blockDevice{{fmt.Sprintf("block/%d:%d", major, minor), major, minor}}
	}
	all := []blockDevice{{filepath.Base(dir), major, minor}}
	parts, _ := filepath.Glob(filepath.Join(dir, "*", "partition"))
	for _, p := range parts {
		part := filepath.Dir(p)
		b, err := os.ReadFile(filepath.Join(part, "dev"))
		if err != nil {
			continue
		}
		d := blockDevice{name: filepath.Base(part)}
		if _, err := fmt.Sscanf(string(b), "%d:%d", &d.major, &d.minor); err == nil {
			all = append(all, d)
		}
	}
	return all
}

func searchDevice(devnum uint64, found *list) {
	devices := device(devnum)
	for _, m := range mounts(func(i *mountinfo.Info) bool { return mountedFrom(i, devices) }) {
		m.report(found)
	}
	for _, d := range devices {
		above, _ := os.ReadDir(fmt.Sprintf("/sys/dev/block/%d:%d/holders", d.major, d.minor))
		for _, a := range above {
			found.add("block device %s on %s", describe(a.Name()), d.name)
		}
		searchLoops(func(file string) bool { return file == d.node() }, found)
		for _, file := range swaps() {
			if file == d.node() {
				found.add("swap on %s", file)
			}
		}
	}
	searchProcesses(func(st *unix.Statx_t) bool {
		return st.Mode&unix.S_IFMT == unix.S_IFBLK && is(devices, st.Rdev_major, st.Rdev_minor)
	}, found)
	if found.empty() {
		// A file system that was detached lazily is in no mount namespace; what is still open on it keeps it.
		searchProcesses(func(st *unix.Statx_t) bool { return is(devices, st.Dev_major, st.Dev_minor) }, found)
	}
}

func is(devices []blockDevice, major, minor uint32) bool {
	for _, d := range devices {
		if d.major == major && d.minor == minor {
			return true
		}
	}
	return false
}

// mountedFrom knows a mount by its device number, by its source (btrfs has a number of its own), or by a further device in its options
// (erofs, and ext4 and xfs with a log elsewhere).
func mountedFrom(i *mountinfo.Info, devices []blockDevice) bool {
	if is(devices, uint32(i.Major), uint32(i.Minor)) {
		return true
	}
	for _, d := range devices {
		if i.Source == d.node() || strings.Contains(","+i.VFSOptions+",", "="+d.node()+",") {
			return true
		}
	}
	return false
}

// describe adds the name that the device mapper has for a device.
func describe(name string) string {
	b, err := os.ReadFile(filepath.Join("/sys/block", name, "dm/name"))
	if err != nil {
		return name
	}
	return fmt.Sprintf("%s (%s)", name, printable(strings.TrimSpace(string(b))))
}

// searchLoops reports loop devices on a file that want holds for.
func searchLoops(want func(file string) bool, found *list) {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if file := strings.TrimSuffix(string(b), "\n"); want(file) {
			found.add("loop device /dev/%s on %s", filepath.Base(filepath.Dir(filepath.Dir(f))), printable(file))
		}
	}
}

// swaps lists what the kernel swaps to.
func swaps() []string {
	b, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return nil
	}
	var all []string
	for i, line := range strings.Split(string(b), "\n") {
		if fields := strings.Fields(line); i > 0 && len(fields) > 0 {
			all = append(all, fields[0])
		}
	}
	return all
}
