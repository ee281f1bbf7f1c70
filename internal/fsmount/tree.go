package fsmount

import (
	"context"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/undo"
)

// UnmountTree is Unmount for a mount with others below it: those go first, from the leaves up. When one is in use, those that have
// gone are put back, and all is as before.
func UnmountTree(ctx context.Context, target string) (err error) {
	mounted, err := isMountpoint(target)
	if err != nil || !mounted {
		return err
	}
	infos, err := mountinfo.Below(target)
	if err != nil {
		return err
	}
	var copies []*os.File
	defer func() {
		for _, c := range copies {
			c.Close()
		}
	}()
	var u undo.Stack
	defer func() { err = u.Unwind(ctx, err) }()
	for _, i := range leavesFirst(infos) {
		if i.Mountpoint == target {
			continue
		}
		copied, err := unmountSub(ctx, i.Mountpoint, &u)
		if copied != nil {
			copies = append(copies, copied)
		}
		if err != nil {
			return err
		}
	}
	return Unmount(ctx, target)
}

// leavesFirst puts every mount before the one that it is mounted on. What covers a mount goes before what is mounted within it, which
// no path leads to while it is covered.
func leavesFirst(infos []*mountinfo.Info) []*mountinfo.Info {
	known, children := map[int]bool{}, map[int][]*mountinfo.Info{}
	for _, i := range infos {
		known[i.ID] = true
	}
	for _, i := range infos {
		if i.Parent != i.ID {
			children[i.Parent] = append(children[i.Parent], i)
		}
	}
	var order []*mountinfo.Info
	var visit func(i *mountinfo.Info)
	visit = func(i *mountinfo.Info) {
		for _, cover := range []bool{true, false} {
			for _, child := range slices.Backward(children[i.ID]) {
				if (child.Mountpoint == i.Mountpoint) == cover {
					visit(child)
				}
			}
		}
		order = append(order, i)
	}
	for _, i := range infos {
		if !known[i.Parent] {
			visit(i)
		}
	}
	return order
}

// unmountSub unmounts the uppermost mount at a place and gives a copy of it, which u puts back.
func unmountSub(ctx context.Context, place string, u *undo.Stack) (*os.File, error) {
	copied, err := cloneAt(ctx, place)
	if err != nil {
		return nil, err
	}
	return copied, step.Do(ctx, "mount.unmount", func(ctx context.Context) error {
		if err := unmountOne(ctx, place); err != nil {
			return err
		}
		u.Push("put back "+place, func(ctx context.Context) error {
			return step.Do(ctx, "mount.move", func(context.Context) error {
				return unix.MoveMount(int(copied.Fd()), "", unix.AT_FDCWD, place, unix.MOVE_MOUNT_F_EMPTY_PATH)
			})
		})
		return nil
	})
}

func cloneAt(ctx context.Context, place string) (*os.File, error) {
	fd, err := unix.Open(place, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, wrap(err, "open %s", place)
	}
	src := os.NewFile(uintptr(fd), place)
	defer src.Close() // it would keep the mount busy
	return CloneTree(ctx, src, false)
}
