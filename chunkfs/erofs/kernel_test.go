package erofs_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
)

func mount(t *testing.T, image, options string) string {
	t.Helper()
	target := t.TempDir()
	if err := unix.Mount(image, target, "erofs", unix.MS_RDONLY, options); err != nil {
		t.Fatalf("mount %s (%s): %v", image, options, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, 0); err != nil {
			t.Error(err)
		}
	})
	return target
}

// TestKernel mounts an image with a data device, and one without.
func TestKernel(t *testing.T) {
	s := newSample()
	meta, metaPath, dataPath := s.write(t)
	t.Run("device", func(t *testing.T) {
		s.compare(t, mount(t, metaPath, "device="+dataPath))
	})
	t.Run("same device", func(t *testing.T) {
		o := s.options()
		o.SameDevice = true
		var b bytes.Buffer
		n, err := erofs.Write(&b, s.root, o)
		if err != nil || n != int64(b.Len()) {
			t.Fatal(n, err)
		}
		b.Write(s.data)
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		s.compare(t, mount(t, path, ""))
	})
	t.Run("no data", func(t *testing.T) {
		empty := *s
		empty.root, empty.data = dir(erofs.Entry{Name: "hole", Node: s.file(1<<44, nil)}), nil
		_, metaPath, dataPath := empty.write(t)
		empty.compare(t, mount(t, metaPath, "device="+dataPath))
	})
	if len(meta) > 2<<20 {
		t.Errorf("the metadata has %d bytes", len(meta))
	}
}

// compare holds a mounted tree against the sample.
func (s *sample) compare(t *testing.T, root string) {
	t.Helper()
	s.walk(t, root, s.root, map[*erofs.Node]uint64{}, links(s.root, map[*erofs.Node]uint64{s.root: 2}))
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

func (s *sample) walk(t *testing.T, path string, n *erofs.Node, inodes, links map[*erofs.Node]uint64) {
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

func (s *sample) list(t *testing.T, path string, n *erofs.Node) {
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

func (s *sample) xattrs(t *testing.T, path string, n *erofs.Node) {
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

// expect gives the content of a file from off on.
func (s *sample) expect(n *erofs.Node, off int64, b []byte) int {
	b = b[:max(min(int64(len(b)), n.Size-off), 0)]
	clear(b)
	if n.Data != nil {
		return copy(b, n.Data[off:])
	}
	for _, e := range n.Extents {
		if start, end := max(off, e.Offset), min(off+int64(len(b)), e.Offset+e.Size); start < end {
			copy(b[start-off:end-off], s.data[e.Device+start-e.Offset:])
		}
	}
	return len(b)
}

// content compares a whole file, or the surroundings of what a huge one has.
func (s *sample) content(t *testing.T, path string, n *erofs.Node) {
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
		if !bytes.Equal(got[:size], want[:s.expect(n, off, want)]) {
			t.Errorf("%s: other bytes at %d", path, off)
			return
		}
	}
}
