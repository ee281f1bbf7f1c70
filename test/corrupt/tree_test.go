package corrupt

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
)

// tree is what is seen of each path of a directory tree: all that stat, readlink, getxattr and read say.
type tree map[string]string

// diff says in which path a tree is not as it should be; empty: it is.
func (t tree) diff(got tree) string {
	for p, says := range t {
		if got[p] != says {
			return fmt.Sprintf("%s is %q, want %q", p, got[p], says)
		}
	}
	for p := range got {
		if _, ok := t[p]; !ok {
			return fmt.Sprintf("%s should not be there", p)
		}
	}
	return ""
}

func seen(mode, uid, gid uint32, sec, nsec int64, links uint32, size int64, target string, xattrs []string, content []byte) string {
	return fmt.Sprintf("%o %d:%d %d.%d links %d size %d -> %q %q %x", mode, uid, gid, sec, nsec, links, size, target, xattrs, sha256.Sum256(content))
}

// without is the tree without some paths.
func (t tree) without(paths []string) tree {
	rest := maps.Clone(t)
	for _, p := range paths {
		delete(rest, p)
	}
	return rest
}

// treeOf reads a directory through the kernel, but for some files.
func treeOf(t testing.TB, dir string, but ...string) tree {
	t.Helper()
	all := tree{}
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		must(t, err)
		if slices.Contains(but, rel) {
			return nil
		}
		var st unix.Stat_t
		must(t, unix.Lstat(p, &st))
		var target string
		var content []byte
		size := int64(0)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err = os.Readlink(p)
		case unix.S_IFREG:
			size = st.Size
			content, err = os.ReadFile(p)
		}
		must(t, err)
		links := uint32(st.Nlink)
		if e.IsDir() {
			links = 0 // each file system counts them in its own way
		}
		all[rel] = seen(st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, links, size, target, xattrsOf(t, p), content)
		return nil
	}))
	return all
}

func xattrsOf(t testing.TB, p string) (list []string) {
	t.Helper()
	names := make([]byte, 4096)
	n, err := unix.Llistxattr(p, names)
	must(t, err)
	for _, name := range strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 4096)
		n, err := unix.Lgetxattr(p, name, value)
		must(t, err)
		list = append(list, fmt.Sprintf("%s=%q", name, value[:n]))
	}
	slices.Sort(list)
	return list
}

// walker reads an image as a mount of it does: metadata, and content through the device.
type walker struct {
	im   *erofs.Image
	read func(ctx context.Context, p []byte, off int64) error
	all  tree
}

func (w *walker) walk(ctx context.Context, nid uint64, at string) error {
	in, err := w.im.Inode(nid)
	if err != nil {
		return err
	}
	xattrs, err := w.im.Xattrs(nid)
	if err != nil {
		return err
	}
	var list []string
	for _, x := range xattrs {
		list = append(list, fmt.Sprintf("%s=%q", x.Name, x.Value))
	}
	var target string
	var content []byte
	size, links := int64(0), in.Links
	switch in.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err = w.im.Readlink(nid)
	case unix.S_IFREG:
		size = in.Size
		content, err = w.content(ctx, in)
	case unix.S_IFDIR:
		links = 0
		err = w.directory(ctx, nid, at)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	w.all[at] = seen(in.Mode, in.UID, in.GID, in.ModTime.Unix(), int64(in.ModTime.Nanosecond()), links, size, target, list, content)
	return nil
}

func (w *walker) directory(ctx context.Context, nid uint64, at string) error {
	var failed error
	err := w.im.ReadDir(nid, 0, func(_ int, name string, child uint64, _ uint32) bool {
		if name != "." && name != ".." {
			failed = w.walk(ctx, child, path.Join(at, name))
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func (w *walker) content(ctx context.Context, in erofs.Inode) ([]byte, error) {
	b := make([]byte, in.Size)
	for off := int64(0); off < in.Size; {
		r, err := w.im.Map(in.Nid, off)
		if err != nil {
			return nil, err
		}
		if r.Size == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		to := b[off : off+r.Size]
		switch {
		case r.Data != nil:
			copy(to, r.Data)
		case r.Device >= 0:
			if err := w.read(ctx, to, r.Device); err != nil {
				return nil, err
			}
		}
		off += r.Size
	}
	return b, nil
}
