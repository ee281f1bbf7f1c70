package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// UnpackOptions say how an image is unpacked.
type UnpackOptions struct {
	// AnyOwner leaves all files to who unpacks; else that takes root.
	AnyOwner bool
	// Skipped is told of what could not be kept, and why. It may be nil.
	Skipped func(path, what string)
	// Progress is told how many bytes of files have been written; it may be nil.
	Progress func(done, total int64)
}

// Unpack writes an image's tree into dir with all that it has: owners, modes, times, extended attributes, links, devices, holes. dir must
// not be there, or be empty; when it fails, what it made of a dir that was not there is removed again. Nothing outside of dir is touched,
// whatever the image holds.
func (i *Image) Unpack(ctx context.Context, dir string, o UnpackOptions) (err error) {
	root, err := i.Tree(ctx)
	if err != nil {
		return err
	}
	made, err := emptyDir(dir)
	if err != nil {
		return fmt.Errorf("unpack %s: %w", i.Ref, err)
	}
	if err := i.unpackTo(ctx, root, dir, o); err != nil {
		if made {
			_ = os.RemoveAll(dir)
		}
		return fmt.Errorf("unpack %s to %s: %w", i.Ref, dir, err)
	}
	return nil
}

// emptyDir makes the directory if it is not there, and refuses one that is not empty.
func emptyDir(dir string) (made bool, err error) {
	err = os.Mkdir(dir, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	list, err := os.ReadDir(dir)
	if err == nil && len(list) > 0 {
		err = fault.Hintf(fault.New(fault.Exists, "the directory %s is not empty", dir), "name one that is not there yet")
	}
	return false, err
}

func (i *Image) unpackTo(ctx context.Context, root *erofs.Node, dir string, o UnpackOptions) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	u := &unpacker{ctx: ctx, o: o, root: fd, names: names(root), first: map[*erofs.Node][]string{}, total: total(root)}
	u.content = i.content(ctx)
	defer u.content.Close()
	if err := u.entries(fd, nil, root); err != nil {
		return err
	}
	return u.finish(fd, ".", nil, root)
}

// unpacker is one unpacking. It holds a descriptor for each directory on the way and creates everything by a name in one of them, so that
// no link is followed.
type unpacker struct {
	ctx     context.Context //nolint:containedctx // it is one operation
	o       UnpackOptions
	content *content
	root    int
	names   map[*erofs.Node]int
	first   map[*erofs.Node][]string // where an inode of several names was made
	done    int64
	total   int64
}

// entries makes what a directory holds.
func (u *unpacker) entries(dir int, at []string, n *erofs.Node) error {
	for _, e := range n.Entries {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		here := append(slices.Clip(at), e.Name)
		if err := u.entry(dir, e.Name, here, e.Node); err != nil {
			var inner *entryError
			if errors.As(err, &inner) {
				return err
			}
			return &entryError{format.QuotePath(filepath.Join(here...)), err}
		}
	}
	return nil
}

// entryError names the entry, once.
type entryError struct {
	path string
	err  error
}

func (e *entryError) Error() string { return e.path + ": " + e.err.Error() }
func (e *entryError) Unwrap() error { return e.err }

func (u *unpacker) entry(dir int, name string, at []string, n *erofs.Node) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fault.New(fault.Corrupt, "that is no name")
	}
	if first, seen := u.first[n]; seen {
		return u.link(dir, name, first)
	}
	if err := u.make(dir, name, at, n); err != nil {
		return err
	}
	if u.names[n] > 1 {
		u.first[n] = at
	}
	return u.finish(dir, name, at, n)
}

func (u *unpacker) make(dir int, name string, at []string, n *erofs.Node) error {
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(dir, name, 0o700); err != nil {
			return err
		}
		fd, err := openDirAt(dir, name)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return u.entries(fd, at, n)
	case unix.S_IFREG:
		return u.file(dir, name, n)
	case unix.S_IFLNK:
		return unix.Symlinkat(n.Target, dir, name)
	case unix.S_IFBLK, unix.S_IFCHR, unix.S_IFIFO, unix.S_IFSOCK:
		err := unix.Mknodat(dir, name, n.Mode&unix.S_IFMT|0o600, int(n.Rdev))
		if errors.Is(err, unix.EPERM) {
			return fault.Hintf(fault.New(fault.Forbidden, "make the device node: %w", err), "unpack as root")
		}
		return err
	}
	return fault.New(fault.Corrupt, "it is of no known type: mode %o", n.Mode)
}

func openDirAt(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// link makes another name of what was made before. The way there is gone step by step from the root, as it was made.
func (u *unpacker) link(dir int, name string, first []string) error {
	from, err := unix.Dup(u.root)
	if err != nil {
		return err
	}
	for _, step := range first[:len(first)-1] {
		next, err := openDirAt(from, step)
		unix.Close(from)
		if err != nil {
			return err
		}
		from = next
	}
	defer unix.Close(from)
	return unix.Linkat(from, first[len(first)-1], dir, name, 0)
}

// file writes a regular file; what is a hole in the image is one there.
func (u *unpacker) file(dir int, name string, n *erofs.Node) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if n.Size < 0 {
		return fault.New(fault.Corrupt, "it has %d bytes", n.Size)
	}
	if err := f.Truncate(n.Size); err != nil {
		return err
	}
	err = u.content.file(n, func(off int64, piece []byte, size int64) error {
		if piece == nil {
			return nil
		}
		u.done += size
		if u.o.Progress != nil {
			u.o.Progress(u.done, u.total)
		}
		_, err := f.WriteAt(piece, off)
		return err
	})
	if err != nil {
		return err
	}
	return f.Close()
}

// finish gives what was made its owner, attributes, mode and times, in this order: a change of owner takes setuid bits and capabilities
// away, an access list may take the setgid bit, attributes need a file that can be written, and nothing is made in a directory after its
// times.
func (u *unpacker) finish(dir int, name string, at []string, n *erofs.Node) error {
	if !u.o.AnyOwner {
		err := unix.Fchownat(dir, name, int(n.UID), int(n.GID), unix.AT_SYMLINK_NOFOLLOW)
		if errors.Is(err, unix.EPERM) {
			return fault.Hintf(fault.New(fault.Forbidden, "give it to %d:%d: %w", n.UID, n.GID, err), "unpack as root, or with --any-owner")
		}
		if err != nil {
			return fmt.Errorf("give it to %d:%d: %w", n.UID, n.GID, err)
		}
	}
	for _, x := range n.Xattrs {
		if err := u.xattr(dir, name, at, x); err != nil {
			return err
		}
	}
	if n.Mode&unix.S_IFMT != unix.S_IFLNK { // it was made here, so this follows nothing
		mode := n.Mode & 0o7777
		if u.o.AnyOwner && n.Mode&unix.S_IFMT == unix.S_IFREG {
			mode &^= unix.S_ISUID | unix.S_ISGID // they would be of another owner than the image meant
		}
		if err := unix.Fchmodat(dir, name, mode, 0); err != nil {
			return fmt.Errorf("set its mode %04o: %w", mode, err)
		}
	}
	ts, err := unix.TimeToTimespec(n.ModTime)
	if err == nil {
		err = unix.UtimesNanoAt(dir, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("set its time: %w", err)
	}
	return nil
}

// xattr sets an extended attribute. Those that steer overlayfs are of the file system that the image was made from.
func (u *unpacker) xattr(dir int, name string, at []string, x erofs.Xattr) error {
	err := error(unix.EPERM)
	steers := strings.HasPrefix(x.Name, "trusted.overlay.") || strings.HasPrefix(x.Name, "user.overlay.")
	if !steers {
		err = unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, name), x.Name, x.Value, 0)
	}
	switch {
	case err == nil:
		return nil
	case steers, errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM), x.Name == "security.selinux" && errors.Is(err, unix.EINVAL):
		if u.o.Skipped != nil {
			u.o.Skipped(format.QuotePath(filepath.Join(append([]string{"."}, at...)...)), fmt.Sprintf("its attribute %s: %v", x.Name, err))
		}
		return nil
	}
	return fmt.Errorf("set its attribute %q: %w", x.Name, err)
}
