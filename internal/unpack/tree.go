package unpack

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// tree creates and finds things below a directory. The directory's parents are found by the kernel, beneath it and through no symbolic
// link, so a link in the archive leads nowhere.
type tree struct {
	root int // borrowed
	// An archive lists a directory's files one after the other: the directory last used stays open.
	open    int // -1: none
	openFor string
}

// place is a name in a directory that is open. It is good until the next call of tree.
type place struct {
	dir  int
	name string // without a slash
}

func newTree(dir *os.File) *tree { return &tree{root: int(dir.Fd()), open: -1} }

func (t *tree) close() {
	if t.open >= 0 {
		_ = unix.Close(t.open)
	}
	t.open, t.openFor = -1, ""
}

// cleanName makes the name of an entry one relative to the root, "." for the root itself. A leading / is taken off, as tar does.
func cleanName(name string) (string, error) {
	var elems []string
	for _, e := range strings.Split(name, "/") {
		switch e {
		case "", ".":
		case "..":
			return "", damaged("its name %q has a \"..\", which leads out of the archive", clip(name))
		default:
			if strings.IndexByte(e, 0) >= 0 {
				return "", damaged("its name holds a NUL byte")
			}
			elems = append(elems, e)
		}
	}
	if len(elems) == 0 {
		return ".", nil
	}
	return strings.Join(elems, "/"), nil
}

// parent gives the place that a clean name stands for and makes the directories above it that no entry made, mode 0755.
func (t *tree) parent(name string) (place, error) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" {
		return place{t.root, base}, nil
	}
	if t.open >= 0 && t.openFor == dir {
		return place{t.open, base}, nil
	}
	fd, err := t.openDir(dir)
	if errors.Is(err, unix.ENOENT) {
		if err := t.makeDirs(dir); err != nil {
			return place{}, err
		}
		fd, err = t.openDir(dir)
	}
	if err != nil {
		return place{}, err
	}
	t.close()
	t.open, t.openFor = fd, dir
	return place{fd, base}, nil
}

// existing gives the place of something that must be there already: the target of a hard link.
func (t *tree) existing(name string) (p place, done func(), err error) {
	dir, base := path.Split(name)
	if dir == "" {
		return place{t.root, base}, func() {}, nil
	}
	fd, err := t.openDir(dir)
	if err != nil {
		return place{}, nil, err
	}
	return place{fd, base}, func() { _ = unix.Close(fd) }, nil
}

func (t *tree) openDir(dir string) (int, error) {
	fd, err := openBeneath(t.root, dir, unix.O_RDONLY|unix.O_DIRECTORY)
	switch {
	case errors.Is(err, unix.ELOOP):
		return -1, damaged("it lies behind a symbolic link in %q", clip(dir))
	case errors.Is(err, unix.ENOTDIR):
		return -1, damaged("%q, in which it lies, is not a directory", clip(dir))
	case err != nil:
		return -1, fmt.Errorf("open the directory %q: %w", clip(dir), err)
	}
	return fd, nil
}

func (t *tree) makeDirs(dir string) error {
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		p, done, err := t.existing(dir[:i])
		if err != nil {
			return err
		}
		err = unix.Mkdirat(p.dir, p.name, 0o755)
		done()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make the directory %q: %w", clip(dir[:i]), err)
		}
	}
	return nil
}

// openBeneath opens what must lie below dir, through no symbolic link.
func openBeneath(dir int, name string, flags int) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
}

// create runs make, which fails with EEXIST when something is there; that is then removed, because the later entry counts.
func (t *tree) create(p place, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := t.remove(p); err != nil {
		return err
	}
	return make()
}

// remove takes away what an earlier entry made at p, with all that is in it.
func (t *tree) remove(p place) error {
	err := unix.Unlinkat(p.dir, p.name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return replaceError(err)
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", p.dir))
	if err != nil {
		return replaceError(err)
	}
	defer root.Close()
	if p.dir != t.open { // the directory that is open may lie in what goes
		defer t.close()
	}
	return replaceError(root.RemoveAll(p.name))
}

func replaceError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("replace what an earlier entry made: %w", err)
}
