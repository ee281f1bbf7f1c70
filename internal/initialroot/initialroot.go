// Package initialroot makes a node fit for containers that stands on the root which the kernel unpacked its initramfs into, and whose init
// left it there: that of u-root, which Kraken's layer0 boots with. Nobody can leave that root by pivot_root, and nobody has mounted cgroup2.
//
// It touches nothing on any other node. The init of windlass itself has moved to another root long before.
package initialroot

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/step"
)

// Prepare mounts cgroup2 if nobody has, and gives this process a root that its containers can leave: a view of the same files, with all that is
// mounted now, on top of the one that is there. Who stands below reaches it as "/.."; what is mounted on one of both later is not seen on the
// other. A process that comes after another one has done it goes to the same. It says whether the root was the initial one.
func Prepare(ctx context.Context) (bool, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return false, fmt.Errorf("read mountinfo: %w", err)
	}
	if !initial(mounts) {
		return false, nil
	}
	if err := cgroups(ctx, mounts); err != nil {
		return true, err
	}
	above, err := covered()
	if err != nil {
		return true, err
	}
	if !above {
		if err := step.Do(ctx, "root.cover", cover); err != nil {
			return true, err
		}
	}
	if err := errors.Join(os.Chdir("/.."), unix.Chroot(".")); err != nil {
		return true, fmt.Errorf("go to the root above the initial one: %w", err)
	}
	return true, nil
}

// initial says whether the root is the first of all mounts, which is mounted on itself.
func initial(mounts []*mountinfo.Info) bool {
	for _, m := range mounts {
		if m.Mountpoint == "/" && m.ID == m.Parent {
			return true
		}
	}
	return false
}

// covered says whether something is mounted on the root: a path that leads up from it goes there, and "/" itself does not.
func covered() (bool, error) {
	var root, above unix.Statx_t
	for path, st := range map[string]*unix.Statx_t{"/": &root, "/..": &above} {
		if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, st); err != nil {
			return false, fmt.Errorf("statx %s: %w", path, err)
		}
	}
	return root.Mnt_id != above.Mnt_id, nil
}

// cover mounts a copy of all mounts on the root.
func cover(context.Context) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("copy the mounts of the initial root: %w", err)
	}
	defer unix.Close(tree)
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount a copy of the initial root on it: %w", err)
	}
	return nil
}

// Where cgroup2 is mounted: there alone, or beside version 1.
const (
	cgroupDir  = "/sys/fs/cgroup"
	unifiedDir = cgroupDir + "/unified"
)

// cgroups mounts cgroup2.
func cgroups(ctx context.Context, mounts []*mountinfo.Info) error {
	dir, options := cgroupDir, "nsdelegate"
	for _, m := range mounts {
		switch {
		case m.FSType == "cgroup2":
			return nil
		case m.Mountpoint == cgroupDir: // where version 1 lies below
			dir, options = unifiedDir, ""
		}
	}
	return step.Do(ctx, "root.cgroups", func(context.Context) error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("mount cgroup2: %w", err)
		}
		if err := unix.Mount("cgroup2", dir, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
			return fmt.Errorf("mount cgroup2 on %s: %w", dir, err)
		}
		return nil
	})
}
