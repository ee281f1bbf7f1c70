package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxPath is the longest path that a program can name in one go.
const maxPath = unix.PathMax

// directory is a directory of this machine. Others may write to it: nothing is opened but beneath its descriptor and through no link,
// and what was looked at is what is read.
type directory struct {
	path  string
	root  *os.File
	o     Options
	total atomic.Int64
	done  atomic.Int64
}

// Directory reads the directory at path. The names are sorted by their bytes. A file that changes between Walk and the end of its
// content is an error of kind BadState, and so is what goes away meanwhile.
func Directory(path string, o Options) (Source, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, openError(path, err)
	}
	return &directory{path: path, root: os.NewFile(uintptr(fd), path), o: o}, nil
}

func (d *directory) Random() bool { return true }
func (d *directory) Total() int64 { return d.total.Load() }
func (d *directory) Done() int64  { return d.done.Load() }
func (d *directory) Close() error { return d.root.Close() }

func (d *directory) Walk(ctx context.Context, visit func(Item) error) error {
	w := walk{d: d, ctx: ctx, visitor: visitor{visit: visit}, seen: map[fileID]*erofs.Node{}}
	err := w.one(".")
	if w.err != nil {
		return w.err
	}
	if err != nil {
		return fmt.Errorf("read the directory %s: %w", d.path, err)
	}
	return nil
}

// fileID tells files of a machine apart.
type fileID struct {
	dev uint64
	ino uint64
}

// walk is one call of Walk.
type walk struct {
	d   *directory
	ctx context.Context //nolint:containedctx // it is one operation
	visitor
	seen map[fileID]*erofs.Node // those with several links
}

// one visits what is at path and all below it.
func (w *walk) one(path string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	fd, err := w.d.open(path, unix.O_PATH)
	if err != nil {
		return reopenError(path, err)
	}
	item, st, err := w.item(path, fd)
	_ = unix.Close(fd)
	if err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	if err := w.do(item); err != nil {
		return err
	}
	if item.Node.Mode&unix.S_IFMT != unix.S_IFDIR || w.mount(path, st) {
		return nil
	}
	names, err := w.d.names(path, identify(st))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.one(join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// mount says whether something else is mounted at path and is to be left out.
func (w *walk) mount(path string, st *unix.Statx_t) bool {
	return path != "." && !w.d.o.CrossMounts && st.Attributes_mask&st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

func statx(fd int) (*unix.Statx_t, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st); err != nil {
		return nil, fmt.Errorf("look at it: %w", err)
	}
	return &st, nil
}

func (w *walk) item(path string, fd int) (Item, *unix.Statx_t, error) {
	st, err := statx(fd)
	if err != nil {
		return Item{}, nil, err
	}
	id, kind := identify(st), uint32(st.Mode)&unix.S_IFMT
	if node := w.seen[id]; node != nil {
		return Item{Path: path, Node: node}, st, nil
	}
	node := nodeOf(st)
	if w.mount(path, st) {
		node.Size = 0
		if kind != unix.S_IFDIR && kind != unix.S_IFREG {
			node.Mode = node.Mode&^unix.S_IFMT | unix.S_IFREG
		}
		w.skipped(path, "what is mounted there")
		return Item{Path: path, Node: node}, st, nil
	}
	attrs := attributes{path: path, skip: w.d.o.Skipped}
	if err := readXattrs(fd, &attrs); err != nil {
		return Item{}, nil, err
	}
	node.Xattrs = attrs.sorted()
	item := Item{Path: path, Node: node}
	switch kind {
	case unix.S_IFLNK:
		if node.Target, err = readlink(fd); err != nil {
			return Item{}, nil, err
		}
	case unix.S_IFREG:
		w.d.total.Add(int64(min(st.Blocks*512, st.Size)))
		if st.Size > 0 {
			item.Open = func() (Content, error) { return w.d.content(path, st) }
			item.Version = version(st, time.Now())
		}
	}
	if st.Nlink > 1 && kind != unix.S_IFDIR {
		w.seen[id] = node
	}
	return item, st, nil
}

func (w *walk) skipped(path, what string) {
	if w.d.o.Skipped != nil {
		w.d.o.Skipped(path, what)
	}
}

func nodeOf(st *unix.Statx_t) *erofs.Node {
	n := &erofs.Node{
		Mode: uint32(st.Mode), UID: st.Uid, GID: st.Gid,
		ModTime: time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)),
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		n.Size = int64(st.Size)
	case unix.S_IFBLK, unix.S_IFCHR:
		n.Rdev = unix.Mkdev(st.Rdev_major, st.Rdev_minor)
	}
	return n
}

// settled is how long ago the last change of a file must be for its times to tell it from the next: clocks of file systems go in steps, and
// some are of other machines.
const settled = 3 * time.Second

// version tells contents of a file apart as make and git do, with the time of the last change of the inode, which nobody can set.
func version(st *unix.Statx_t, now time.Time) string {
	if now.Sub(time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec))) < settled {
		return ""
	}
	return fmt.Sprint(st.Dev_major, st.Dev_minor, st.Ino, st.Size, st.Mtime.Sec, st.Mtime.Nsec, st.Ctime.Sec, st.Ctime.Nsec)
}

func identify(st *unix.Statx_t) fileID {
	return fileID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
}

// open opens a path below the root, through no symbolic link. With O_PATH it gives a descriptor of a link that is the last name.
func (d *directory) open(path string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(d.root.Fd()), path, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// names gives the names in the directory at path, sorted by bytes, if it is still the one that was visited.
func (d *directory) names(path string, id fileID) ([]string, error) {
	fd, err := d.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, reopenError(path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	st, err := statx(fd)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	if identify(st) != id {
		return nil, changed(path, errOther)
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("%q: list it: %w", path, err)
	}
	slices.Sort(names)
	return names, nil
}

func readlink(fd int) (string, error) {
	p := make([]byte, maxPath)
	n, err := unix.Readlinkat(fd, "", p)
	if err != nil {
		return "", fmt.Errorf("read the link: %w", err)
	}
	return string(p[:n]), nil
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// reopenError is for what Walk or a listing has seen at path and what cannot be opened.
func reopenError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENAMETOOLONG):
		return fault.New(fault.Unsupported, "%q: a path of more than %d bytes: %w", clip(path), maxPath-1, err)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return changed(path, err)
	}
	return fmt.Errorf("open %q: %w", clip(path), err)
}

// changed is the error for what is not as it was.
func changed(path string, how error) error {
	return fault.Hintf(fault.New(fault.BadState, "%q changed while it was read: %w", clip(path), how),
		"build from a directory that nobody writes to, such as a snapshot")
}

var errOther = errors.New("something else is there now")

// openError is for an argument that cannot be opened.
func openError(path string, err error) error {
	kind := fault.KindOf(err)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOENT):
		kind = fault.NotFound
	case errors.Is(err, unix.ENOTDIR):
		kind = fault.Invalid
	}
	return fault.New(kind, "open the source %q: %w", path, err)
}

// clip keeps hostile names out of messages that people must read.
func clip(name string) string {
	if len(name) > 200 {
		return strings.ToValidUTF8(name[:200], "�") + "…"
	}
	return name
}
