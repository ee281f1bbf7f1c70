package source_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/source"
)

// check ends the test on an error.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a program of this machine.
func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// acl is a POSIX ACL with an entry for user and one for group, as the kernel takes it.
func acl(user, group uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, ^uint32(0)}, {2, 7, user}, {4, 4, ^uint32(0)}, {8, 5, group}, {0x10, 7, ^uint32(0)}, {0x20, 4, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, uint16(e[0]))
		b = binary.LittleEndian.AppendUint16(b, uint16(e[1]))
		b = binary.LittleEndian.AppendUint32(b, e[2])
	}
	return b
}

// capability lets a program bind to low ports (cap_net_bind_service=ep).
var capability = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// noise is content that does not compress and is the same each time.
func noise(n int) []byte {
	b, s := make([]byte, n), uint64(n)
	for i := range b {
		s = s*6364136223846793005 + 1442695040888963407
		b[i] = byte(s >> 56)
	}
	return b
}

// makeTree makes a tree with one of everything that a Linux file system has.
func makeTree(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	file := func(name string, b []byte, mode uint32) {
		p := filepath.Join(dir, name)
		check(t, os.MkdirAll(filepath.Dir(p), 0o755))
		check(t, os.WriteFile(p, b, 0o600))
		check(t, unix.Chmod(p, mode))
	}
	file("empty", nil, 0o644)
	file("small", []byte("small\n"), 0o640)
	file("etc/passwd", []byte("root:x:0:0::/:/bin/sh\n"), 0o644)
	file("block", noise(4096), 0o444)
	file("odd", noise(131072+4097), 0o600)
	file("big", noise(1<<20+17), 0o644)
	file("bin/su", noise(5000), 0o4755)
	file("bin/wall", noise(100), 0o2755)
	file("bin/ping", noise(200), 0o755)
	file("zeros", make([]byte, 300<<10), 0o644)
	file(strings.Repeat("n", 255), []byte("long"), 0o644)
	file("bytes/\xff\xfe\x01 name\nof two lines", []byte("not UTF-8"), 0o644)
	file("bytes/ünïcode", []byte("UTF-8"), 0o644)
	file(strings.Repeat("deep/", 60)+"bottom", []byte("deep"), 0o644)
	check(t, os.MkdirAll(filepath.Join(dir, "tmp/hollow"), 0o755))
	check(t, unix.Chmod(filepath.Join(dir, "tmp"), 0o1777))
	makeSparse(t, filepath.Join(dir, "sparse"), 40<<20, 1<<20, 5<<20+4096, 30<<20)
	makeSparse(t, filepath.Join(dir, "hole"), 9<<20)
	makeSparse(t, filepath.Join(dir, "comb"), 64*128<<10, func() (at []int64) {
		for i := range int64(32) {
			at = append(at, i*256<<10)
		}
		return at
	}()...)
	makeSpecial(t, dir)
	makeXattrs(t, dir)
	makeTimes(t, dir)
	return dir
}

// makeSparse makes a file that has 8 KiB of data at each of the places and holes elsewhere.
func makeSparse(t testing.TB, path string, size int64, at ...int64) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	for _, off := range at {
		_, err := f.WriteAt(noise(8192), off)
		check(t, err)
	}
	check(t, f.Truncate(size))
}

func makeSpecial(t testing.TB, dir string) {
	t.Helper()
	p := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.Link(p("big"), p("bytes/big-too")))
	check(t, os.Link(p("big"), p("a-first-name-of-big")))
	check(t, os.Symlink("etc/passwd", p("link")))
	check(t, os.Symlink("/nowhere/"+strings.Repeat("x", 200), p("dangling")))
	check(t, os.Link(p("link"), p("link-too")))
	check(t, os.Mkdir(p("dev"), 0o755))
	check(t, unix.Mknod(p("dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(t, unix.Mknod(p("dev/large"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	check(t, os.Link(p("dev/null"), p("dev/null-too")))
	check(t, unix.Mkfifo(p("dev/fifo"), 0o620))
	check(t, unix.Mknod(p("dev/socket"), unix.S_IFSOCK|0o755, 0))
	check(t, os.Lchown(p("small"), 1000, 100000))
	check(t, os.Lchown(p("etc"), 4000000000, 70000))
	check(t, os.Lchown(p("link"), 5, 6))
}

func makeXattrs(t testing.TB, dir string) {
	t.Helper()
	set := func(name, key string, value []byte) {
		t.Helper()
		if err := unix.Lsetxattr(filepath.Join(dir, name), key, value, 0); err != nil {
			t.Fatalf("set %s of %s: %v", key, name, err)
		}
	}
	set("bin/ping", "security.capability", capability)
	set("small", "user.one", []byte("1"))
	set("small", "user.two", bytes.Repeat([]byte{0, 1, 2, '=', '\n'}, 50))
	set("small", "user.empty", nil)
	set("small", "trusted.three", []byte("3"))
	set("etc", "user.two", bytes.Repeat([]byte{0, 1, 2, '=', '\n'}, 50))
	set("etc/passwd", "system.posix_acl_access", acl(54321, 4294967290))
	set("tmp", "system.posix_acl_default", acl(54322, 54323))
	set("link", "trusted.link", []byte("of a link"))
	set("dev/null", "trusted.device", []byte("of a device"))
	set("bytes", "trusted.overlay.opaque", []byte("y"))
}

func makeTimes(t testing.TB, dir string) {
	t.Helper()
	n := int64(0)
	var paths []string
	check(t, filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		paths = append(paths, p)
		return err
	}))
	for _, p := range slices.Backward(paths) {
		n++
		ts := unix.Timespec{Sec: 1_500_000_000 + n*1000, Nsec: n*1_000_003 + 1}
		if filepath.Base(p) == "block" {
			ts.Sec = 4_400_000_000 // after 2106
		}
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// tree is what a source gave: a line for every path.
type tree map[string]string

// read walks a source and makes a tree of what it gives, as a builder would.
func read(t testing.TB, src source.Source) tree {
	t.Helper()
	out, err := tryRead(t, src)
	check(t, err)
	return out
}

func tryRead(t testing.TB, src source.Source) (tree, error) {
	t.Helper()
	nodes := map[string]*erofs.Node{}
	sums := map[*erofs.Node]string{}
	var later []source.Item
	err := src.Walk(t.Context(), func(i source.Item) error {
		place(nodes, i)
		if i.Open == nil {
			return nil
		}
		if src.Random() {
			later = append(later, i)
			return nil
		}
		var err error
		sums[i.Node], err = sum(i)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, i := range slices.Backward(later) {
		if sums[i.Node], err = sum(i); err != nil {
			return nil, err
		}
	}
	if total, done := src.Total(), src.Done(); total < 0 || done < 0 {
		t.Errorf("progress is %d of %d", done, total)
	}
	return describe(nodes, sums), nil
}

// place does as source.Item says about what was there before.
func place(nodes map[string]*erofs.Node, i source.Item) {
	const kind = unix.S_IFMT
	if old := nodes[i.Path]; old != nil && (old.Mode&kind != unix.S_IFDIR || i.Node.Mode&kind != unix.S_IFDIR) {
		maps.DeleteFunc(nodes, func(p string, _ *erofs.Node) bool { return strings.HasPrefix(p, i.Path+"/") })
	}
	nodes[i.Path] = i.Node
}

// sum reads a file by its runs of data and gives its hash. It must be the size that the node says.
func sum(i source.Item) (string, error) {
	c, err := i.Open()
	if err != nil {
		return "", err
	}
	defer c.Close()
	h, at := sha256.New(), int64(0)
	for {
		start, end, err := c.NextData(at)
		if err == io.EOF {
			start, end = i.Node.Size, i.Node.Size
		} else if err != nil {
			return "", err
		} else if start < at || end <= start || end > i.Node.Size {
			return "", fmt.Errorf("%s: data at %d to %d, asked from %d", i.Path, start, end, at)
		}
		if _, err := io.CopyN(h, zeros{}, start-at); err != nil {
			return "", err
		}
		if _, err := io.CopyN(h, c, end-start); err != nil {
			return "", fmt.Errorf("%s: read %d to %d: %w", i.Path, start, end, err)
		}
		if at = end; at == i.Node.Size {
			break
		}
	}
	if n, err := io.Copy(io.Discard, c); n != 0 || err != nil {
		return "", fmt.Errorf("%s: %d bytes after its end: %w", i.Path, n, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), c.Close()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func describe(nodes map[string]*erofs.Node, sums map[*erofs.Node]string) tree {
	first := map[*erofs.Node]string{}
	links := map[*erofs.Node]int{}
	for _, p := range slices.Sorted(maps.Keys(nodes)) {
		n := nodes[p]
		if links[n]++; links[n] == 1 {
			first[n] = p
		}
	}
	out := tree{}
	for p, n := range nodes {
		line := fmt.Sprintf("%06o %d:%d %s dev %x size %d %q", n.Mode, n.UID, n.GID, n.ModTime.UTC().Format(time.RFC3339Nano), n.Rdev, n.Size, n.Target)
		for _, x := range n.Xattrs {
			line += fmt.Sprintf(" %s=%x", x.Name, x.Value)
		}
		if links[n] > 1 {
			line += fmt.Sprintf(" is %q", first[n])
		}
		out[p] = line + " " + sums[n]
	}
	return out
}

// same compares two trees.
func same(t testing.TB, want, got tree) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the trees differ (-want +got):\n%s", diff)
	}
}

// openDir opens a directory as a source.
func openDir(t testing.TB, dir string) source.Source {
	t.Helper()
	return open(t, dir, source.Options{})
}

func open(t testing.TB, arg string, o source.Options) source.Source {
	t.Helper()
	src, err := source.Open(t.Context(), arg, o)
	check(t, err)
	t.Cleanup(func() { check(t, src.Close()) })
	return src
}

// hashOf is what sum gives for a content.
func hashOf(s string) string { h := sha256.Sum256([]byte(s)); return fmt.Sprintf("%x", h[:8]) }
