// Package erofstest has a tree with one of everything that a file system can hold, and compares mounts with it. Tests use it.
package erofstest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
)

// Sample is a tree, and the data device of its files.
type Sample struct {
	Root *erofs.Node
	Data []byte
}

// Node is an inode of a mode, and of a time that all have.
func Node(mode uint32) *erofs.Node {
	return &erofs.Node{Mode: mode, ModTime: time.Date(2031, 5, 6, 7, 8, 9, 123456789, time.UTC)}
}

// Dir is a directory.
func Dir(entries ...erofs.Entry) *erofs.Node {
	n := Node(unix.S_IFDIR | 0o755)
	n.Entries = entries
	return n
}

// Sort orders the names of a directory.
func Sort(n *erofs.Node) {
	slices.SortFunc(n.Entries, func(a, b erofs.Entry) int { return strings.Compare(a.Name, b.Name) })
}

// Random gives bytes that depend on size alone.
func Random(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return b
}

// File puts content on the device, as far as it is not zero.
func (s *Sample) File(size int64, parts map[int64][]byte) *erofs.Node {
	n := Node(unix.S_IFREG | 0o644)
	n.Size = size
	var data []erofs.Extent
	for off, b := range parts {
		data = append(data, erofs.Extent{Offset: off, Size: int64(len(b))})
	}
	slices.SortFunc(data, func(a, b erofs.Extent) int { return int(a.Offset - b.Offset) })
	for _, e := range roundOut(size, data) {
		e.Device = int64(len(s.Data))
		s.Data = append(s.Data, make([]byte, (e.Size+erofs.BlockSize-1)/erofs.BlockSize*erofs.BlockSize)...)
		for off, b := range parts {
			if off >= e.Offset && off < e.Offset+e.Size {
				copy(s.Data[e.Device+off-e.Offset:], b)
			}
		}
		n.Extents = append(n.Extents, e)
	}
	return n
}

func (s *Sample) whole(size int) *erofs.Node {
	return s.File(int64(size), map[int64][]byte{0: Random(size)})
}

func acl(perms ...uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for i, tag := range []uint16{0x01, 0x02, 0x04, 0x10, 0x20} {
		id := ^uint32(0)
		if tag == 0x02 {
			id = 70000
		}
		b = binary.LittleEndian.AppendUint16(b, tag)
		b = binary.LittleEndian.AppendUint16(b, perms[i])
		b = binary.LittleEndian.AppendUint32(b, id)
	}
	return b
}

// New makes the tree with one of everything. It is the same every time.
func New() *Sample {
	s := &Sample{}
	var names []erofs.Entry
	add := func(name string, n *erofs.Node) { names = append(names, erofs.Entry{Name: name, Node: n}) }
	addFiles(s, add)
	addSpecials(add)
	addXattrs(s, add)
	addDirs(s, add)
	s.Root = Dir(names...)
	s.Root.Mode = unix.S_IFDIR | 0o1777
	Sort(s.Root)
	return s
}

func addFiles(s *Sample, add func(string, *erofs.Node)) {
	for _, size := range []int{1, 4095, 4096, 4097, 8192, 100_000, 3 << 20} {
		add(fmt.Sprintf("plain-%d", size), s.whole(size))
	}
	for _, size := range []int{1, 31, 4000, 4032, 4033, 4095} {
		n := Node(unix.S_IFREG | 0o600)
		n.Data, n.Size = Random(size), int64(size)
		add(fmt.Sprintf("inline-%d", size), n)
	}
	add("empty", Node(unix.S_IFREG|0o4755))
	add("hole", s.File(1<<30, nil))
	add("sparse", s.File(10*erofs.BlockSize+17, map[int64][]byte{erofs.BlockSize: Random(erofs.BlockSize), 5 * erofs.BlockSize: Random(2 * erofs.BlockSize), 10 * erofs.BlockSize: Random(17)}))
	add("sparse-end", s.File(10*erofs.BlockSize, map[int64][]byte{0: Random(5)}))
	add("huge", s.File(1<<40, map[int64][]byte{0: Random(100), 1 << 39: Random(5000), 1<<40 - 3: Random(3)}))
	linked := s.whole(5000)
	linked.UID, linked.GID = 70000, 1<<32-2
	add("link-a", linked)
	add("link-b", linked)
}

func addSpecials(add func(string, *erofs.Node)) {
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO | 0o640, "socket": unix.S_IFSOCK | 0o777} {
		add(name, Node(mode))
	}
	for name, rdev := range map[string]uint64{"null": unix.Mkdev(1, 3), "large": unix.Mkdev(4095, 1<<20-1), "mid": unix.Mkdev(259, 300)} {
		n := Node(unix.S_IFCHR | 0o666)
		if name == "mid" {
			n.Mode = unix.S_IFBLK | 0o660
		}
		n.Rdev = rdev
		add("dev-"+name, n)
	}
	for _, size := range []int{1, 60, 4032, 4033, 4095} {
		n := Node(unix.S_IFLNK | 0o777)
		n.Target = strings.Repeat("t", size)
		add(fmt.Sprintf("symlink-%d", size), n)
	}
	old, far := Node(unix.S_IFREG|0o400), Node(unix.S_IFREG|0o400)
	old.ModTime, far.ModTime = time.Unix(-5_000_000_000, 1).UTC(), time.Unix(1<<40, 999_999_999).UTC()
	add("old", old)
	add("far", far)
	add("bad\xff\xfeutf8\n\x01", Node(unix.S_IFREG))
	add(strings.Repeat("n", 255), Node(unix.S_IFREG))
	add("!before-dot", Node(unix.S_IFREG))
	add(".!between", Node(unix.S_IFREG))
	add("..behind", Node(unix.S_IFREG))
}

func addXattrs(s *Sample, add func(string, *erofs.Node)) {
	capability := []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for i := range 3 {
		n := s.whole(1000 + i)
		n.Xattrs = []erofs.Xattr{{Name: "security.capability", Value: capability}, {Name: "user.mine", Value: []byte{byte(i)}}}
		add(fmt.Sprintf("xattr-%d", i), n)
	}
	list := Node(unix.S_IFREG | 0o664)
	list.Mode = unix.S_IFREG | 0o674
	list.Xattrs = []erofs.Xattr{{Name: "system.posix_acl_access", Value: acl(6, 4, 0, 7, 4)}, {Name: "trusted.overlay.opaque", Value: []byte("y")}, {Name: "user.empty", Value: []byte{}}}
	add("acl", list)
	d := Dir()
	d.Xattrs = []erofs.Xattr{{Name: "system.posix_acl_default", Value: acl(7, 5, 0, 5, 5)}}
	add("acl-dir", d)
	big := Dir(erofs.Entry{Name: "x", Node: Node(unix.S_IFREG)})
	for i := range 20 {
		big.Xattrs = append(big.Xattrs, erofs.Xattr{Name: fmt.Sprintf("user.%02d%s", i, strings.Repeat("k", 240)), Value: Random(4000 + i)})
	}
	add("xattr-big", big)
	link := Node(unix.S_IFLNK | 0o777)
	link.Target, link.Xattrs = strings.Repeat("x", 2000), []erofs.Xattr{{Name: "trusted.t", Value: Random(3000)}}
	add("xattr-link", link)
}

func addDirs(s *Sample, add func(string, *erofs.Node)) {
	add("dir-empty", Dir())
	many := Dir()
	for i := range 5000 {
		many.Entries = append(many.Entries, erofs.Entry{Name: fmt.Sprintf("%d-%s", i, strings.Repeat("e", i%200)), Node: Node(unix.S_IFREG | 0o644)})
	}
	Sort(many)
	add("dir-many", many)
	// Sizes of directories around what fits behind the inode, and around a block.
	for i := range 24 {
		d := Dir()
		for j := range 250 + i {
			d.Entries = append(d.Entries, erofs.Entry{Name: fmt.Sprintf("%04d", j), Node: s.Root})
			d.Entries[j].Node = Node(unix.S_IFSOCK)
		}
		add(fmt.Sprintf("dir-%d", 250+i), d)
	}
	deep := Dir()
	for i := range 50 {
		deep = Dir(erofs.Entry{Name: strings.Repeat("d", 1+i*2), Node: deep})
		deep.Mode = unix.S_IFDIR | 0o700
	}
	add("deep", deep)
}

// Options fit the sample.
func (s *Sample) Options() erofs.Options {
	return erofs.Options{DeviceSize: int64(len(s.Data)), UUID: [16]byte{1, 2, 3}}
}

// Write gives the image and, in a file each, metadata and data.
func (s *Sample) Write(t *testing.T) (meta []byte, metaPath, dataPath string) {
	t.Helper()
	var b bytes.Buffer
	n, err := erofs.Write(&b, s.Root, s.Options())
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("Write: %d bytes of %d, %v", n, b.Len(), err)
	}
	d := t.TempDir()
	metaPath, dataPath = filepath.Join(d, "meta"), filepath.Join(d, "data")
	for path, b := range map[string][]byte{metaPath: b.Bytes(), dataPath: s.Data} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes(), metaPath, dataPath
}
