package lazyfs

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// nasty makes a tree with one of everything that a file system on a disk can hold.
func nasty(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(tempDir(t), "nasty")
	n := &nastyTree{t, dir}
	n.dir(".")
	n.files()
	n.specials()
	n.names()
	n.attributes()
	n.owners()
	must(t, os.Chmod(dir, 0o1777))
	n.times()
	return dir
}

type nastyTree struct {
	t    *testing.T
	root string
}

func (n *nastyTree) at(path string) string { return filepath.Join(n.root, path) }

func (n *nastyTree) dir(path string) { must(n.t, os.MkdirAll(n.at(path), 0o755)) }

func (n *nastyTree) file(path string, size int) {
	b := make([]byte, size)
	fill(b, [32]byte{byte(size), byte(size >> 8), 9})
	must(n.t, os.WriteFile(n.at(path), b, 0o640))
}

func (n *nastyTree) sparse(path string, size int64, parts ...int64) {
	f, err := os.Create(n.at(path))
	must(n.t, err)
	defer f.Close()
	must(n.t, f.Truncate(size))
	for i, off := range parts {
		b := make([]byte, 5000+i)
		fill(b, [32]byte{byte(i), 3})
		_, err := f.WriteAt(b, off)
		must(n.t, err)
	}
}

func (n *nastyTree) files() {
	n.dir("sizes")
	for _, size := range []int{0, 1, 511, 512, 513, 4032, 4095, 4096, 4097, 16_384, 65_535, 262_144, 262_145, 3_000_001} {
		n.file(fmt.Sprintf("sizes/%d", size), size)
	}
	n.file("sizes/same-again", 262_145)
	must(n.t, os.WriteFile(n.at("zeros"), make([]byte, 1<<20), 0o600))
	n.sparse("hole", 1<<33)
	n.sparse("sparse", 1<<32, 0, 4096*3, 1<<30, 1<<31+17, 1<<32-6000)
	n.sparse("sparse-end", 10<<20, 100)
	n.dir("links/a/b")
	n.file("links/one", 20_000)
	for _, name := range []string{"links/two", "links/a/b/three", "zz-last"} {
		must(n.t, os.Link(n.at("links/one"), n.at(name)))
	}
	must(n.t, os.Chmod(n.at("links/one"), 0o4755))
	n.dir("many")
	for i := range 3000 {
		must(n.t, os.WriteFile(n.at(fmt.Sprintf("many/%d-%s", i, strings.Repeat("e", i%150))), []byte{byte(i)}, 0o644))
	}
	n.dir("empty")
}

func (n *nastyTree) specials() {
	for name, dev := range map[string]uint64{"null": unix.Mkdev(1, 3), "large": unix.Mkdev(4095, 1<<20-1), "whiteout": 0} {
		must(n.t, unix.Mknod(n.at("char-"+name), unix.S_IFCHR|0o666, int(dev)))
	}
	must(n.t, unix.Mknod(n.at("block"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 300))))
	must(n.t, unix.Mkfifo(n.at("fifo"), 0o600))
	must(n.t, unix.Mknod(n.at("socket"), unix.S_IFSOCK|0o777, 0))
	must(n.t, os.Link(n.at("fifo"), n.at("fifo-again")))
	for name, target := range map[string]string{"short": "x", "bad": "\xff\xfe\n", "nowhere": "/no/such/\"file\"", "long": strings.Repeat("t/", 2040)} {
		must(n.t, os.Symlink(target, n.at("symlink-"+name)))
	}
	must(n.t, os.Link(n.at("symlink-long"), n.at("symlink-again")))
}

func (n *nastyTree) names() {
	n.dir("names/..behind")
	for _, name := range []string{"bad\xff\xfeutf8", "new\nline\x01", strings.Repeat("n", 255), "ä日本", "!before-dot", ".!between", " ", "-rf", `a\b"c'`} {
		n.file("names/"+name, 10+len(name))
	}
	deep := "deep"
	for i := range 40 {
		deep += "/" + strings.Repeat("d", 1+i)
	}
	n.dir(deep)
	n.file(deep+"/bottom", 700)
}

func (n *nastyTree) set(path, name string, value []byte) {
	must(n.t, unix.Lsetxattr(n.at(path), name, value, 0))
}

func (n *nastyTree) attributes() {
	n.file("caps", 1000)
	n.set("caps", "security.capability", append([]byte{1, 0, 0, 2, 0, 4}, make([]byte, 14)...))
	n.set("caps", "user.empty", nil)
	n.set("caps", "trusted.mine", []byte("y"))
	n.set("symlink-short", "trusted.link", []byte("\x00binary\xff"))
	n.file("acl", 10)
	n.set("acl", "system.posix_acl_access", acl(6, 4, 0, 6, 4))
	n.dir("acl-dir")
	n.set("acl-dir", "system.posix_acl_default", acl(7, 5, 0, 5, 5))
	n.file("attributes", 5)
	for i := range 12 {
		n.set("attributes", fmt.Sprintf("user.%02d%s", i, strings.Repeat("k", 100+i)), []byte(strings.Repeat("v", 100)))
	}
}

// acl is a list with an entry for user 70000, in the form of the kernel.
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

func (n *nastyTree) owners() {
	for path, id := range map[string][2]int{"sizes/1": {70000, 80000}, "fifo": {1<<32 - 2, 65536}, "empty": {65535, 0}, "symlink-bad": {123456, 7}} {
		must(n.t, os.Lchown(n.at(path), id[0], id[1]))
	}
	for path, mode := range map[string]os.FileMode{"sizes/1": 0, "empty": 0o711 | os.ModeSetgid, "sizes/4096": 0o6755 | os.ModeSetuid | os.ModeSetgid} {
		must(n.t, os.Chmod(n.at(path), mode))
	}
}

// times come last: everything else changes them.
func (n *nastyTree) times() {
	for path, ts := range map[string]unix.Timespec{
		"sizes/1": {Sec: 1, Nsec: 1}, "fifo": {Sec: 1 << 31, Nsec: 999_999_999}, "symlink-short": {Sec: 3_000_000_000, Nsec: 5},
		"empty": {Sec: -1000, Nsec: 7}, ".": {Sec: 1_234_567_890, Nsec: 123_456_789},
	} {
		must(n.t, unix.UtimesNanoAt(unix.AT_FDCWD, n.at(path), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}
