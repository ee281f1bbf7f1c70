package nodestate

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/rundir"
)

// mounts lists what is mounted below the filter's directories, and what is mounted anywhere from the instance's block devices.
func mounts(f filter) ([]Item, error) {
	own, err := devicePaths(f)
	if err != nil {
		return nil, err
	}
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("nodestate: read mountinfo: %w", err)
	}
	var items []Item
	for _, m := range infos {
		if f.below(m.Mountpoint) || own[m.Source] {
			items = append(items, Item{Class: Mount, Key: m.Mountpoint, Detail: m.FSType + " from " + m.Source})
		}
	}
	return items, nil
}

// devicePaths gives the device files of the instance's block devices.
func devicePaths(f filter) (map[string]bool, error) {
	paths := map[string]bool{}
	for _, list := range []func(filter) ([]Item, error){loops, rbds, sessions} {
		items, err := list(f)
		if err != nil {
			return nil, err
		}
		for _, i := range items {
			dev, _, _ := strings.Cut(i.Detail, " ")
			paths[dev] = true
		}
	}
	return paths, nil
}

// loops lists the loop devices that carry the instance's name or lie on a file below the filter's directories. The number of the
// device is no part of the key: the kernel may give another one to the same attachment.
func loops(f filter) ([]Item, error) {
	dirs, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, dir := range dirs {
		dev := "/dev/" + filepath.Base(filepath.Dir(dir))
		backing, err := os.ReadFile(filepath.Join(dir, "backing_file"))
		if err != nil {
			continue // it went while we looked
		}
		file := strings.TrimSuffix(string(bytes.TrimSpace(backing)), " (deleted)")
		name := loopName(dev)
		if f.named(name) || f.below(file) {
			items = append(items, Item{Class: Loop, Key: name + " on " + file, Detail: dev + " is bound"})
		}
	}
	return items, nil
}

// loopName reads lo_file_name; empty when the device cannot be asked.
func loopName(dev string) string {
	fd, err := unix.Open(dev, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, err := unix.IoctlLoopGetStatus64(fd)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.File_name[:])
}

// cgroups lists the directories in every cgroup hierarchy that the instance named.
func cgroups(f filter) ([]Item, error) {
	tops, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("nodestate: read mountinfo: %w", err)
	}
	var items []Item
	for _, top := range tops {
		if f.below(top.Mountpoint) {
			continue // a container's own view of the same tree
		}
		err := filepath.WalkDir(top.Mountpoint, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return ignoreGone(err)
			}
			if f.inCgroup(strings.TrimPrefix(path, top.Mountpoint)) {
				items = append(items, Item{Class: Cgroup, Key: path})
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("nodestate: walk %s: %w", top.Mountpoint, err)
		}
	}
	return items, nil
}

// inCgroup says whether the last part of the path that is an instance's name is this instance's. Instances lie in one parent, which has
// the name of the default one.
func (f filter) inCgroup(path string) bool {
	mine := false
	for part := range strings.SplitSeq(path, "/") {
		if f.named(part) {
			mine = true
		} else if strings.HasPrefix(part, rundir.Dir(rundir.Default).Instance()+"-") {
			mine = false
		}
	}
	return mine
}

// sockets lists the unix sockets below the filter's directories that are listened on or bound; connections are left out, for they
// come and go with the clients.
func sockets(f filter) ([]Item, error) {
	data, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return nil, fmt.Errorf("nodestate: %w", err)
	}
	const connected = "03"
	var items []Item
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 8 || fields[5] == connected {
			continue
		}
		if path := strings.Join(fields[7:], " "); f.below(path) {
			items = append(items, Item{Class: Socket, Key: path})
		}
	}
	return items, nil
}

// files lists what lies in the run directory: not in what is mounted there, and not the lock, the sequence and the directories of the
// layout, which belong to every instance that ever ran.
func files(f filter) ([]Item, error) {
	layout := map[string]bool{".": true, "lock": true, "sequence": true,
		"records": true, "mounts": true, "scratch": true, "containers": true, "rbd": true, "iscsi": true,
		// What the chunkfs server leaves when nothing is mounted: its log, and the locks that say that nobody runs.
		"chunkfs": true, "chunkfs/keeper.lock": true, "chunkfs/start.lock": true, "chunkfs/server.log": true, "chunkfs/keeper.log": true}
	_, err := os.Lstat(f.runDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("nodestate: %w", err)
	}
	var items []Item
	err = filepath.WalkDir(f.runDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		rel, err := filepath.Rel(f.runDir, path)
		if err != nil {
			return err
		}
		if !layout[rel] {
			items = append(items, Item{Class: File, Key: filepath.Join(f.runDir, rel)})
		}
		if d.IsDir() && rel != "." && isMountpoint(path) {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("nodestate: walk %s: %w", f.runDir, err)
	}
	return items, nil
}

// isMountpoint asks for the attribute that the kernel keeps for it; a directory that cannot be asked is not entered.
func isMountpoint(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, 0, &st)
	return err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// ignoreGone lets a walk go on when what it came to has vanished.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
