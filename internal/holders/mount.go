package holders

import (
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// namespaceMount is a mount and a process that lives in its mount namespace.
type namespaceMount struct {
	*mountinfo.Info
	pid int
}

// mounts lists the mounts that want holds for, each mount namespace that a process lives in once.
func mounts(want func(*mountinfo.Info) bool) []namespaceMount {
	var all []namespaceMount
	seen := map[string]bool{}
	for _, pid := range pids() {
		ns, err := os.Readlink(proc(pid, "ns", "mnt"))
		if err != nil || seen[ns] {
			continue
		}
		f, err := os.Open(proc(pid, "mountinfo"))
		if err != nil {
			continue
		}
		infos, err := mountinfo.GetMountsFromReader(f, func(i *mountinfo.Info) (skip, stop bool) { return !want(i), false })
		f.Close()
		if err != nil {
			continue
		}
		seen[ns] = true
		for _, i := range infos {
			all = append(all, namespaceMount{i, pid})
		}
	}
	return all
}

func (m namespaceMount) report(found *list) {
	found.add("mount %d at %s in the mount namespace of %s", m.ID, printable(m.Mountpoint), process(m.pid))
}

func searchMount(mountID uint64, path string, found *list) {
	for _, m := range mounts(func(i *mountinfo.Info) bool { return uint64(i.Parent) == mountID && i.Parent != i.ID }) {
		m.report(found)
	}
	searchLoops(func(file string) bool { return below(file, path) }, found)
	for _, file := range swaps() {
		if below(file, path) {
			found.add("swap on %s", printable(file))
		}
	}
	searchProcesses(func(st *unix.Statx_t) bool {
		return st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id == mountID
	}, found)
}

func below(file, dir string) bool {
	return dir == "/" || file == dir || strings.HasPrefix(file, strings.TrimSuffix(dir, "/")+"/")
}
