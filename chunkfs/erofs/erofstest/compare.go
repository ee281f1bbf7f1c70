package erofstest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
)

// Compare holds a mounted tree against the sample: every inode with all that stat, list, read and the calls for attributes show.
func (s *Sample) Compare(t *testing.T, root string) {
	t.Helper()
	c := &comparison{Sample: s, xattr: make([]byte, 1<<16), got: make([]byte, 4<<20), want: make([]byte, 4<<20)}
	c.walk(t, root, s.Root, map[*erofs.Node]uint64{}, links(s.Root, map[*erofs.Node]uint64{s.Root: 2}))
}

// comparison has room for what is compared.
type comparison struct {
	*Sample
	xattr, got, want []byte
}

// links counts the links that every inode should have.
func links(n *erofs.Node, count map[*erofs.Node]uint64) map[*erofs.Node]uint64 {
	for _, e := range n.Entries {
		if count[e.Node]++; e.Node.Mode&unix.S_IFMT == unix.S_IFDIR {
			count[e.Node]++
			count[n]++
			links(e.Node, count)
		}
	}
	return count
}

func (s *comparison) walk(t *testing.T, path string, n *erofs.Node, inodes, links map[*erofs.Node]uint64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Errorf("stat: %v", err)
		return
	}
	if ino, ok := inodes[n]; ok {
		if ino != st.Ino {
			t.Errorf("%s: not a link of its other name", path)
		}
		return
	}
	inodes[n] = st.Ino
	size := map[uint32]int64{unix.S_IFREG: n.Size, unix.S_IFLNK: int64(len(n.Target)), unix.S_IFDIR: st.Size}[n.Mode&unix.S_IFMT]
	if n.Mode&unix.S_IFMT == unix.S_IFSOCK || n.Mode&unix.S_IFMT == unix.S_IFIFO {
		st.Rdev = 0
	}
	got := fmt.Sprint(st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec, st.Rdev, st.Size, uint64(st.Nlink))
	want := fmt.Sprint(n.Mode, n.UID, n.GID, n.ModTime.Unix(), n.ModTime.Nanosecond(), n.Rdev, size, links[n])
	if got != want {
		t.Errorf("%.80q: mode, owner, time, rdev, size, links\n got %s\nwant %s", path, got, want)
	}
	s.xattrs(t, path, n)
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		if target, err := os.Readlink(path); err != nil || target != n.Target {
			t.Errorf("%s: target %q, %v", path, target, err)
		}
	case unix.S_IFREG:
		s.content(t, path, n)
	case unix.S_IFDIR:
		s.list(t, path, n)
		for _, e := range n.Entries {
			s.walk(t, path+"/"+e.Name, e.Node, inodes, links)
		}
	}
}

func (s *comparison) list(t *testing.T, path string, n *erofs.Node) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Errorf("list: %v", err)
	}
	var got, want []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	for _, e := range n.Entries {
		want = append(want, e.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%.80q: lists %d names, want %d: %.200q", path, len(got), len(want), got)
	}
	if _, err := os.Lstat(path + "/no such name"); !os.IsNotExist(err) {
		t.Errorf("%.80q: a name that is not there: %v", path, err)
	}
}

func (s *comparison) xattrs(t *testing.T, path string, n *erofs.Node) {
	t.Helper()
	b := s.xattr
	size, err := unix.Llistxattr(path, b)
	if err != nil {
		t.Errorf("%s: list attributes: %v", path, err)
		return
	}
	got := strings.Split(strings.TrimSuffix(string(b[:size]), "\x00"), "\x00")
	if size == 0 {
		got = nil
	}
	if len(got) != len(n.Xattrs) {
		t.Errorf("%s: attributes %q, want %d", path, got, len(n.Xattrs))
	}
	for _, x := range n.Xattrs {
		if !slices.Contains(got, x.Name) {
			t.Errorf("%s: no attribute %s", path, x.Name)
		}
		if size, err := unix.Lgetxattr(path, x.Name, b); err != nil || !bytes.Equal(b[:size], x.Value) {
			t.Errorf("%s: attribute %s is %q, %v; want %q", path, x.Name, b[:max(size, 0)], err, x.Value)
		}
	}
	if _, err := unix.Lgetxattr(path, "trusted.none", b); err != unix.ENODATA {
		t.Errorf("%s: an attribute that is not there: %v", path, err)
	}
}

// Expect gives the content of a file from off on.
func (s *Sample) Expect(n *erofs.Node, off int64, b []byte) int {
	b = b[:max(min(int64(len(b)), n.Size-off), 0)]
	clear(b)
	if n.Data != nil {
		return copy(b, n.Data[off:])
	}
	for _, e := range n.Extents {
		if start, end := max(off, e.Offset), min(off+int64(len(b)), e.Offset+e.Size); start < end {
			copy(b[start-off:end-off], s.Data[e.Device+start-e.Offset:])
		}
	}
	return len(b)
}

// content compares a whole file, or the surroundings of what a huge one has.
func (s *comparison) content(t *testing.T, path string, n *erofs.Node) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	defer f.Close()
	places := []int64{0}
	if n.Size > 8<<20 {
		places = append(places, n.Size/2, n.Size-100)
	}
	for _, e := range n.Extents {
		places = append(places, e.Offset, max(e.Offset-5000, 0), e.Offset+e.Size-1)
	}
	got, want := s.got, s.want
	if n.Size > 8<<20 {
		got, want = got[:100_000], want[:100_000]
	}
	for _, off := range places {
		size, err := f.ReadAt(got, off)
		if err != nil && err != io.EOF {
			t.Errorf("read %s: %v", path, err)
			return
		}
		if !bytes.Equal(got[:size], want[:s.Expect(n, off, want)]) {
			t.Errorf("%s: other bytes at %d", path, off)
			return
		}
	}
}
