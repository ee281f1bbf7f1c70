package shim

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/idmap"
)

// trees are mounts that exist but lie nowhere yet. Closing a descriptor undoes its mount; what the child has moved into place stays.
type trees struct {
	root, dev, pts, shm, run, tmp int
	sys                           int // of the node; -1 when the container has its own
	binds                         []boundTree
}

type boundTree struct {
	fd   int
	dir  bool
	bind proto.Bind
}

func (t *trees) close() {
	for _, fd := range []int{t.root, t.dev, t.pts, t.shm, t.run, t.tmp, t.sys} {
		closeFD(fd)
	}
	for _, b := range t.binds {
		closeFD(b.fd)
	}
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// grow makes the trees that every container has, and fills its /dev. Their files belong to base, the root of the container. On an error
// the caller closes what there is.
func grow(base uint32) (t *trees, err error) {
	t = &trees{root: -1, dev: -1, pts: -1, shm: -1, run: -1, tmp: -1, sys: -1}
	ids := "uid=" + strconv.Itoa(int(base)) + ",gid=" + strconv.Itoa(int(base))
	tmpfs := func(fd *int, options string, attrs int) {
		if err == nil {
			*fd, err = newMount("tmpfs", "tmpfs,"+ids+","+options, attrs)
		}
	}
	const plain = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	tmpfs(&t.dev, "mode=755,size=4m,nr_inodes=64k", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_STRICTATIME)
	tmpfs(&t.shm, "mode=1777,size=10%", plain)
	tmpfs(&t.run, "mode=755,size=20%", plain|unix.MOUNT_ATTR_STRICTATIME)
	tmpfs(&t.tmp, "mode=1777,size=10%", plain|unix.MOUNT_ATTR_STRICTATIME)
	if err != nil {
		return t, err
	}
	pts := fmt.Sprintf("devpts,ptmxmode=0666,mode=620,uid=%d,gid=%d", base, base+ttyGroup)
	if t.pts, err = newMount("devpts", pts, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC); err != nil {
		return t, err
	}
	return t, furnishDev(t.dev, base)
}

// take adds what the node has for this container: its root and its binds.
func (t *trees) take(cfg *proto.Config) (err error) {
	if t.root, err = cloneTree(cfg.Root, true, unix.MOUNT_ATTR_NODEV); err != nil {
		return fmt.Errorf("take the root file system: %w", err)
	}
	if cfg.UserNS && !cfg.Net { // sysfs shows a network namespace, and the container owns none
		if t.sys, err = cloneTree("/sys", false, unix.MOUNT_ATTR_RDONLY); err != nil {
			return err
		}
	}
	return t.growBinds(cfg.Binds)
}

// ttyGroup is the gid of group tty, the same everywhere.
const ttyGroup = 5

func (t *trees) growBinds(binds []proto.Bind) error {
	for _, b := range binds {
		attrs := uint64(unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID)
		if b.ReadOnly {
			attrs |= unix.MOUNT_ATTR_RDONLY
		}
		fd, err := cloneTree(b.Source, b.Recursive, attrs)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			return fault.Hintf(fault.New(fault.Invalid, "binds: there is no %s on this node: %w", b.Source, err), "make it, or name another")
		}
		if err != nil {
			return fmt.Errorf("bind %s into the container: %w", b.Source, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return fmt.Errorf("bind %s into the container: %w", b.Source, err)
		}
		t.binds = append(t.binds, boundTree{fd, st.Mode&unix.S_IFMT == unix.S_IFDIR, b})
	}
	return nil
}

// cloneTree copies the mount at path, private and with attributes, detached from everything.
func cloneTree(path string, recursive bool, attrs uint64) (int, error) {
	deep := uint(0)
	if recursive {
		deep = unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|deep)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	attr := unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|deep, &attr); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "mount_setattr", Path: path, Err: err}
	}
	return fd, nil
}

// newMount makes a file system of its own. Options are split at commas; the first is the source.
func newMount(kind, options string, attrs int) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make a %s: %w", kind, err)
	}
	defer unix.Close(fs)
	for i, o := range splitOptions(options) {
		key, value := o[0], o[1]
		if i == 0 {
			key, value = "source", o[0]
		}
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return -1, fmt.Errorf("make a %s, option %s=%s: %w", kind, key, value, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("make a %s: %w", kind, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return -1, fmt.Errorf("mount a %s: %w", kind, err)
	}
	return fd, nil
}

// mapRoot shows the ids of the root file system as those of the user namespace, unless it was made with these.
func (t *trees) mapRoot(userns int, cfg *proto.Config) error {
	var st unix.Stat_t
	if err := unix.Fstat(t.root, &st); err != nil {
		return fmt.Errorf("stat %s: %w", cfg.Root, err)
	}
	if ids := (idmap.Range{First: cfg.IDBase, Size: proto.IDs}); ids.Has(st.Uid) {
		return nil
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns)}
	err := unix.MountSetattr(t.root, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("show %s with the ids of a user namespace: its file system is %s: %w", cfg.Root, fsName(t.root), err)
	if errors.Is(err, unix.EINVAL) {
		return fault.Hintf(&fault.Error{Kind: fault.Unsupported, Msg: err.Error(), Err: err},
			"this kernel cannot map ids on that file system; leave \"user\" out of namespaces, define the overlay in the container instead of naming one, or use a root on ext4, xfs, btrfs or erofs (or, from Linux 6.3 on, tmpfs)")
	}
	return err
}

func fsName(fd int) string {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return "unknown"
	}
	names := map[int64]string{unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.SQUASHFS_MAGIC: "squashfs", unix.EXT4_SUPER_MAGIC: "ext4",
		unix.XFS_SUPER_MAGIC: "xfs", unix.TMPFS_MAGIC: "tmpfs", unix.NFS_SUPER_MAGIC: "nfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.EROFS_SUPER_MAGIC_V1: "erofs", unix.FUSE_SUPER_MAGIC: "fuse"}
	if n := names[st.Type]; n != "" {
		return n
	}
	return fmt.Sprintf("of type %#x", st.Type)
}
