package erofs_test

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

const block = erofs.BlockSize

// sample is a tree with one of everything, and the data device of its files.
type sample struct {
	root *erofs.Node
	data []byte

	xattr, got, want []byte // for comparing
}

var when = time.Date(2031, 5, 6, 7, 8, 9, 123456789, time.UTC)

func node(mode uint32) *erofs.Node { return &erofs.Node{Mode: mode, ModTime: when} }

func dir(entries ...erofs.Entry) *erofs.Node {
	n := node(unix.S_IFDIR | 0o755)
	n.Entries = entries
	return n
}

func sortEntries(n *erofs.Node) {
	slices.SortFunc(n.Entries, func(a, b erofs.Entry) int { return strings.Compare(a.Name, b.Name) })
}

func random(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	r.Read(b)
	return b
}

// file puts content on the device, as far as it is not zero.
func (s *sample) file(size int64, parts map[int64][]byte) *erofs.Node {
	n := node(unix.S_IFREG | 0o644)
	n.Size = size
	var data []erofs.Extent
	for off, b := range parts {
		data = append(data, erofs.Extent{Offset: off, Size: int64(len(b))})
	}
	slices.SortFunc(data, func(a, b erofs.Extent) int { return int(a.Offset - b.Offset) })
	for _, e := range erofs.Align(size, data) {
		e.Device = int64(len(s.data))
		s.data = append(s.data, make([]byte, (e.Size+block-1)/block*block)...)
		for off, b := range parts {
			if off >= e.Offset && off < e.Offset+e.Size {
				copy(s.data[e.Device+off-e.Offset:], b)
			}
		}
		n.Extents = append(n.Extents, e)
	}
	return n
}

func (s *sample) whole(size int) *erofs.Node {
	return s.file(int64(size), map[int64][]byte{0: random(size)})
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

func newSample() *sample {
	s := &sample{xattr: make([]byte, 1<<16), got: make([]byte, 4<<20), want: make([]byte, 4<<20)}
	var names []erofs.Entry
	add := func(name string, n *erofs.Node) { names = append(names, erofs.Entry{Name: name, Node: n}) }
	addFiles(s, add)
	addSpecials(add)
	addXattrs(s, add)
	addDirs(s, add)
	s.root = dir(names...)
	s.root.Mode = unix.S_IFDIR | 0o1777
	sortEntries(s.root)
	return s
}

func addFiles(s *sample, add func(string, *erofs.Node)) {
	for _, size := range []int{1, 4095, 4096, 4097, 8192, 100_000, 3 << 20} {
		add(fmt.Sprintf("plain-%d", size), s.whole(size))
	}
	for _, size := range []int{1, 31, 4000, 4032, 4033, 4095} {
		n := node(unix.S_IFREG | 0o600)
		n.Data, n.Size = random(size), int64(size)
		add(fmt.Sprintf("inline-%d", size), n)
	}
	add("empty", node(unix.S_IFREG|0o4755))
	add("hole", s.file(1<<30, nil))
	add("sparse", s.file(10*block+17, map[int64][]byte{block: random(block), 5 * block: random(2 * block), 10 * block: random(17)}))
	add("sparse-end", s.file(10*block, map[int64][]byte{0: random(5)}))
	add("huge", s.file(1<<40, map[int64][]byte{0: random(100), 1 << 39: random(5000), 1<<40 - 3: random(3)}))
	linked := s.whole(5000)
	linked.UID, linked.GID = 70000, 1<<32-2
	add("link-a", linked)
	add("link-b", linked)
}

func addSpecials(add func(string, *erofs.Node)) {
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO | 0o640, "socket": unix.S_IFSOCK | 0o777} {
		add(name, node(mode))
	}
	for name, rdev := range map[string]uint64{"null": unix.Mkdev(1, 3), "large": unix.Mkdev(4095, 1<<20-1), "mid": unix.Mkdev(259, 300)} {
		n := node(unix.S_IFCHR | 0o666)
		if name == "mid" {
			n.Mode = unix.S_IFBLK | 0o660
		}
		n.Rdev = rdev
		add("dev-"+name, n)
	}
	for _, size := range []int{1, 60, 4032, 4033, 4095} {
		n := node(unix.S_IFLNK | 0o777)
		n.Target = strings.Repeat("t", size)
		add(fmt.Sprintf("symlink-%d", size), n)
	}
	old, far := node(unix.S_IFREG|0o400), node(unix.S_IFREG|0o400)
	old.ModTime, far.ModTime = time.Unix(-5_000_000_000, 1).UTC(), time.Unix(1<<40, 999_999_999).UTC()
	add("old", old)
	add("far", far)
	add("bad\xff\xfeutf8\n\x01", node(unix.S_IFREG))
	add(strings.Repeat("n", 255), node(unix.S_IFREG))
	add("!before-dot", node(unix.S_IFREG))
	add(".!between", node(unix.S_IFREG))
	add("..behind", node(unix.S_IFREG))
}

func addXattrs(s *sample, add func(string, *erofs.Node)) {
	capability := []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for i := range 3 {
		n := s.whole(1000 + i)
		n.Xattrs = []erofs.Xattr{{Name: "security.capability", Value: capability}, {Name: "user.mine", Value: []byte{byte(i)}}}
		add(fmt.Sprintf("xattr-%d", i), n)
	}
	list := node(unix.S_IFREG | 0o664)
	list.Mode = unix.S_IFREG | 0o674
	list.Xattrs = []erofs.Xattr{{Name: "system.posix_acl_access", Value: acl(6, 4, 0, 7, 4)}, {Name: "trusted.overlay.opaque", Value: []byte("y")}, {Name: "user.empty", Value: []byte{}}}
	add("acl", list)
	d := dir()
	d.Xattrs = []erofs.Xattr{{Name: "system.posix_acl_default", Value: acl(7, 5, 0, 5, 5)}}
	add("acl-dir", d)
	big := dir(erofs.Entry{Name: "x", Node: node(unix.S_IFREG)})
	for i := range 20 {
		big.Xattrs = append(big.Xattrs, erofs.Xattr{Name: fmt.Sprintf("user.%02d%s", i, strings.Repeat("k", 240)), Value: random(4000 + i)})
	}
	add("xattr-big", big)
	link := node(unix.S_IFLNK | 0o777)
	link.Target, link.Xattrs = strings.Repeat("x", 2000), []erofs.Xattr{{Name: "trusted.t", Value: random(3000)}}
	add("xattr-link", link)
}

func addDirs(s *sample, add func(string, *erofs.Node)) {
	add("dir-empty", dir())
	many := dir()
	for i := range 5000 {
		many.Entries = append(many.Entries, erofs.Entry{Name: fmt.Sprintf("%d-%s", i, strings.Repeat("e", i%200)), Node: node(unix.S_IFREG | 0o644)})
	}
	sortEntries(many)
	add("dir-many", many)
	// Sizes of directories around what fits behind the inode, and around a block.
	for i := range 24 {
		d := dir()
		for j := range 250 + i {
			d.Entries = append(d.Entries, erofs.Entry{Name: fmt.Sprintf("%04d", j), Node: s.root})
			d.Entries[j].Node = node(unix.S_IFSOCK)
		}
		add(fmt.Sprintf("dir-%d", 250+i), d)
	}
	deep := dir()
	for i := range 50 {
		deep = dir(erofs.Entry{Name: strings.Repeat("d", 1+i*2), Node: deep})
		deep.Mode = unix.S_IFDIR | 0o700
	}
	add("deep", deep)
}

// options fit the sample.
func (s *sample) options() erofs.Options {
	return erofs.Options{DeviceSize: int64(len(s.data)), UUID: [16]byte{1, 2, 3}}
}

// write gives the image and, in a file each, metadata and data.
func (s *sample) write(t *testing.T) (meta []byte, metaPath, dataPath string) {
	t.Helper()
	var b bytes.Buffer
	n, err := erofs.Write(&b, s.root, s.options())
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("Write: %d bytes of %d, %v", n, b.Len(), err)
	}
	d := t.TempDir()
	metaPath, dataPath = filepath.Join(d, "meta"), filepath.Join(d, "data")
	for path, b := range map[string][]byte{metaPath: b.Bytes(), dataPath: s.data} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes(), metaPath, dataPath
}
