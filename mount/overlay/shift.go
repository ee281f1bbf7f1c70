package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
)

// The kernel cannot show an overlay with other ids, but its layers. So the overlay is made of copies of the lower mounts that show the ids
// of the user namespace (Documentation/filesystems/idmappings.rst), and of an upper that has these ids itself: the kernel writes to it as
// root of the node, which a layer that is shown with other ids does not let in.
//
// Until Linux 6.15 a layer must be mounted somewhere while the overlay is made. The copies are, one over the other, at the place where the
// overlay comes to be, so that what a crash leaves is found there.

// shiftLowers puts copies with the ids of the stack in the place of the lower layers, and mounts them at dir.
func (s *stack) shiftLowers(ctx context.Context, dir string) error {
	users, err := idmap.Namespace(ctx, *s.ids)
	if err != nil {
		return err
	}
	defer users.Close()
	for i, lower := range s.lower {
		shifted, err := shift(ctx, lower, users)
		if err != nil {
			return err
		}
		lower.Close()
		s.lower[i] = shifted
		if err := fsmount.Cover(ctx, shifted, dir); err != nil {
			return err
		}
	}
	return nil
}

// shift gives a copy of the mount of dir, with dir as its root, that shows other ids.
func shift(ctx context.Context, dir, users *os.File) (*os.File, error) {
	mnt, err := fsmount.CloneTree(ctx, dir, false)
	if err != nil {
		return nil, err
	}
	err = fsmount.SetAttr(ctx, mnt, fsmount.Attr{Users: users, Propagation: unix.MS_PRIVATE})
	if err == nil {
		return mnt, nil
	}
	mnt.Close()
	if errors.Is(err, unix.EINVAL) {
		kind := fsType(dir)
		return nil, fault.Hintf(fault.New(fault.Unsupported, "show %s with the ids of a user namespace: this kernel cannot do that with %s: %w", dir.Name(), kind, err),
			"leave \"user\" out of namespaces, use an image of erofs or ext4, or a newer kernel: squashfs can do it where Linux is newer than 6.1")
	}
	return nil, err
}

// fsType says which file system an open file lies on, for a message.
func fsType(f *os.File) string {
	id, err := fsmount.ID(f)
	if err != nil {
		return "its file system"
	}
	i, err := mountinfo.ByID(id)
	if err != nil || i == nil {
		return "its file system"
	}
	return i.FSType
}

// createOver makes the overlay with mount(2), which only makes it somewhere: over its layers. It gives a copy that is nowhere.
func (s *stack) createOver(ctx context.Context, dir string) (*os.File, error) {
	data, flags := s.data()
	if err := fsmount.LegacyCover(ctx, "overlay", "overlay", dir, flags, data); err != nil {
		return nil, err
	}
	made, err := openDir(dir, unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer made.Close()
	return fsmount.CloneTree(ctx, made, false)
}

// checkOwner refuses an upper that was not written with the ids of the stack: nobody in the user namespace could use it.
func (s *stack) checkOwner() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.upper.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", s.upper.Name(), err)
	}
	if s.ids == nil || s.ids.Has(st.Uid) {
		return nil
	}
	return fault.Hintf(fault.New(fault.Invalid, "%s belongs to %d, and the ids of this user namespace are %d to %d", s.upper.Name(), st.Uid, s.ids.First, s.ids.First+s.ids.Size-1),
		"give an empty directory, a tmpfs, or leave \"user\" out of namespaces: each container has ids of its own, and what one has written another cannot use")
}
