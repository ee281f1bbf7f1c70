package source

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
)

// refused says why an attribute of this name is not part of an image; empty: it is. Those of overlayfs would have a say in which file
// of which layer is shown, once the image is a layer itself.
func refused(name string) string {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "user.overlay."):
		return "it steers overlayfs"
	case !erofs.XattrSupported(name):
		return "an image has no room for one of this name"
	}
	return ""
}

// attributes collects those of one file, without what is refused.
type attributes struct {
	path string
	skip func(path, what string)
	list []erofs.Xattr
}

func (a *attributes) add(name string, value []byte) {
	if why := refused(name); why != "" {
		if a.skip != nil {
			a.skip(a.path, fmt.Sprintf("extended attribute %q: %s", name, why))
		}
		return
	}
	a.list = append(a.list, erofs.Xattr{Name: name, Value: value})
}

// sorted gives them by name. Of two of one name the first counts.
func (a *attributes) sorted() []erofs.Xattr {
	slices.SortStableFunc(a.list, func(x, y erofs.Xattr) int { return strings.Compare(x.Name, y.Name) })
	return slices.CompactFunc(a.list, func(x, y erofs.Xattr) bool { return x.Name == y.Name })
}

// readXattrs reads those of what fd holds, which may have been opened with O_PATH.
func readXattrs(fd int, a *attributes) error {
	at := fmt.Sprintf("/proc/self/fd/%d", fd)
	names, err := sized(func(p []byte) (int, error) { return unix.Listxattr(at, p) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list its extended attributes: %w", err)
	}
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" {
			continue
		}
		if refused(name) != "" {
			a.add(name, nil)
			continue
		}
		value, err := sized(func(p []byte) (int, error) { return unix.Getxattr(at, name, p) })
		if err != nil {
			return fmt.Errorf("read its extended attribute %q: %w", name, err)
		}
		a.add(name, value)
	}
	return nil
}

// sized asks for the size and then for the bytes, again when they grew in between.
func sized(read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(nil)
		if err != nil || n == 0 {
			return nil, err
		}
		p := make([]byte, n)
		n, err = read(p)
		if err == nil {
			return p[:n], nil
		}
		if !errors.Is(err, unix.ERANGE) {
			return nil, err
		}
	}
}
