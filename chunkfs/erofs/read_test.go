package erofs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func lookup(t *testing.T, im *erofs.Image, path string) uint64 {
	t.Helper()
	nid := im.Root()
	for name := range strings.SplitSeq(path, "/") {
		var err error
		if nid, err = im.Lookup(nid, name); err != nil {
			t.Fatal(err)
		}
	}
	return nid
}

// TestLookup finds every name of every directory, and none that is not there.
func TestLookup(t *testing.T) {
	s := erofstest.New()
	meta, _, _ := s.Write(t)
	im := open(t, meta)
	var walk func(nid, parent uint64, n *erofs.Node)
	walk = func(nid, parent uint64, n *erofs.Node) {
		for _, e := range append([]erofs.Entry{{Name: "."}, {Name: ".."}}, n.Entries...) {
			child, err := im.Lookup(nid, e.Name)
			if err != nil {
				t.Fatal(err)
			}
			if e.Name == "." && child != nid || e.Name == ".." && child != parent {
				t.Errorf("%s of %d is %d", e.Name, nid, child)
			}
			if _, err := im.Lookup(nid, e.Name+"\x01"); !fault.Is(err, fault.NotFound) {
				t.Fatalf("a name behind %q: %v", e.Name, err)
			}
			if e.Node != nil && e.Node.Mode&unix.S_IFMT == unix.S_IFDIR {
				walk(child, nid, e.Node)
			}
		}
		for _, name := range []string{"", "\x00", "\xff\xff", "/"} {
			if _, err := im.Lookup(nid, name); !fault.Is(err, fault.NotFound) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	walk(im.Root(), im.Root(), s.Root)
	if _, err := im.Lookup(lookup(t, im, "empty"), "x"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a name in a file: %v", err)
	}
}

// TestReadDirFrom stops and goes on at every entry.
func TestReadDirFrom(t *testing.T) {
	s := erofstest.New()
	meta, _, _ := s.Write(t)
	im := open(t, meta)
	nid := lookup(t, im, "dir-many")
	var all, steps []string
	list := func(into *[]string, from, count int) (next int) {
		err := im.ReadDir(nid, from, func(i int, name string, _ uint64, _ uint32) bool {
			*into = append(*into, name)
			next = i + 1
			count--
			return count != 0
		})
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	list(&all, 0, -1)
	for next := 0; ; {
		n := len(steps)
		if next = list(&steps, next, 1+n%7); len(steps) == n {
			break
		}
	}
	if len(all) != 5002 || !slices.Equal(all, steps) {
		t.Errorf("%d names at once, %d in steps", len(all), len(steps))
	}
	list(&all, 1<<62, -1)
	list(&all, -5, 1)
}

// TestMap follows the runs of every file and compares what they point at.
func TestMap(t *testing.T) {
	s := erofstest.New()
	meta, _, _ := s.Write(t)
	im := open(t, meta)
	for _, e := range s.Root.Entries {
		if e.Node.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		nid := lookup(t, im, e.Name)
		for off, runs := int64(0), 0; off < e.Node.Size; runs++ {
			run, err := im.Map(nid, off)
			if err != nil || run.Offset != off || run.Size <= 0 || run.Size > e.Node.Size-off || runs > 100_000 {
				t.Fatalf("%s at %d: %+v, %v", e.Name, off, run, err)
			}
			n := min(run.Size, 1<<20)
			got, want := make([]byte, n), make([]byte, n)
			if run.Data != nil {
				copy(got, run.Data)
			} else if run.Device >= 0 {
				copy(got, s.Data[run.Device:][:n])
			}
			if s.Expect(e.Node, off, want); !bytes.Equal(got, want) {
				t.Fatalf("%s at %d: other bytes in %+v", e.Name, off, run)
			}
			off += run.Size
		}
		if run, err := im.Map(nid, e.Node.Size); err != nil || run.Size != 0 {
			t.Errorf("%s at its end: %+v, %v", e.Name, run, err)
		}
	}
	if _, err := im.Map(im.Root(), 0); !fault.Is(err, fault.Invalid) {
		t.Errorf("Map of a directory: %v", err)
	}
}

func TestXattr(t *testing.T) {
	s := erofstest.New()
	meta, _, _ := s.Write(t)
	im := open(t, meta)
	for _, e := range s.Root.Entries {
		nid := lookup(t, im, e.Name)
		for _, x := range e.Node.Xattrs {
			if v, err := im.Xattr(nid, x.Name); err != nil || !bytes.Equal(v, x.Value) {
				t.Errorf("%s: %s is %q, %v", e.Name, x.Name, v, err)
			}
		}
		list, err := im.Xattrs(nid)
		if err != nil || len(list) != len(e.Node.Xattrs) {
			t.Errorf("%s: %d attributes, want %d, %v", e.Name, len(list), len(e.Node.Xattrs), err)
		}
		for _, name := range []string{"", "user.", "user.none", "lustre.x", "system.posix_acl_accessx"} {
			if _, err := im.Xattr(nid, name); !fault.Is(err, fault.NotFound) {
				t.Errorf("%s: %q: %v", e.Name, name, err)
			}
		}
	}
}

// TestForeign reads what mkfs.erofs made: compact inodes, files between the inodes, block maps.
func TestForeign(t *testing.T) {
	src := t.TempDir()
	for i, size := range []int{0, 10, 4096, 5000, 70_000} {
		if err := os.WriteFile(filepath.Join(src, fmt.Sprint("f", i)), erofstest.Random(size), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	for name, options := range map[string][]string{
		"plain": nil, "compact": {"-Eforce-inode-compact", "-T1234567"}, "chunks": {"--chunksize=4096"}, "block map": {"--chunksize=8192", "-Eforce-chunk-indexes"},
		"no inline": {"-Enoinline_data"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			if out, err := exec.CommandContext(t.Context(), "mkfs.erofs", append(options, path, src)...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			foreign(t, open(t, b), b)
		})
	}
	t.Run("compressed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(filepath.Join(src, "zeros"), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "mkfs.erofs", "-zlz4", path, src).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		im, err := erofs.Open(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			_, err = im.Tree()
		}
		if !fault.Is(err, fault.Unsupported) {
			t.Errorf("got %v", err)
		}
	})
}

func foreign(t *testing.T, im *erofs.Image, image []byte) {
	t.Helper()
	for i, size := range []int{0, 10, 4096, 5000, 70_000} {
		nid := lookup(t, im, fmt.Sprint("f", i))
		in, err := im.Inode(nid)
		if err != nil || in.Mode != unix.S_IFREG|0o640 || in.Size != int64(size) || in.Links != 1 {
			t.Errorf("inode %+v, %v", in, err)
		}
		var got []byte
		for int64(len(got)) < in.Size {
			run, err := im.Map(nid, int64(len(got)))
			switch {
			case err != nil:
				t.Fatal(err)
			case run.Data != nil:
				got = append(got, run.Data...)
			case run.Device >= 0:
				got = append(got, image[run.Device:][:run.Size]...)
			default:
				t.Fatalf("a hole: %+v", run)
			}
		}
		if !bytes.Equal(got, erofstest.Random(size)) {
			t.Errorf("f%d: other bytes", i)
		}
	}
}
