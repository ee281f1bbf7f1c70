package fusefs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/chunkfs/fusefs"
)

// TestTree compares everything, with a device of each kind.
func TestTree(t *testing.T) {
	for _, kind := range []string{"memory", "file", "short spans"} {
		t.Run(kind, func(t *testing.T) {
			s, img, dev := sample(t)
			switch kind {
			case "file":
				dev.inFile(t)
			case "short spans":
				dev.short = 70_001
			}
			s.Compare(t, mount(t, fusefs.New(img, dev, fusefs.Options{})))
		})
	}
}

// TestReads holds random reads of many readers, and of a mapping, against the tree.
func TestReads(t *testing.T) {
	s, img, dev := sample(t)
	dev.inFile(t)
	root := mount(t, fusefs.New(img, dev, fusefs.Options{}))
	var readers sync.WaitGroup
	for i := range 8 {
		r := rand.New(rand.NewPCG(1, uint64(i)))
		readers.Go(func() {
			want, got := make([]byte, 300_000), make([]byte, 300_000)
			for _, e := range s.Root.Entries {
				if e.Node.Mode&unix.S_IFMT == unix.S_IFREG && e.Node.Size > 0 {
					readRandomly(t, s, filepath.Join(root, e.Name), e.Node, r, want, got)
				}
			}
		})
	}
	readers.Wait()
}

// places are offsets that matter in a file: of its extents, and any.
func place(n *erofs.Node, r *rand.Rand) int64 {
	off := r.Int64N(n.Size)
	if len(n.Extents) > 0 && r.IntN(2) == 0 {
		e := n.Extents[r.IntN(len(n.Extents))]
		off = e.Offset + r.Int64N(e.Size+1) - r.Int64N(9000)
	}
	return max(off, 0)
}

func readRandomly(t *testing.T, s *erofstest.Sample, path string, n *erofs.Node, r *rand.Rand, want, got []byte) {
	f, err := os.Open(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for range 10 {
		off, length := place(n, r), 1+r.IntN(len(got))
		if r.IntN(4) == 0 {
			if err := forget(f); err != nil {
				t.Error(err)
			}
		}
		size, err := f.ReadAt(got[:length], off)
		if err != nil && err != io.EOF {
			t.Errorf("%s: %d bytes at %d: %v", path, length, off, err)
			return
		}
		if !bytes.Equal(got[:size], want[:s.Expect(n, off, want[:length])]) {
			t.Errorf("%s: other bytes in %d at %d", path, length, off)
			return
		}
	}
	mapRandomly(t, s, f, n, r, want)
}

// faults is held to read pages of a mapping, and alone to have the kernel forget pages: a page that goes between the two tries of a fault is
// fetched with the lock on this process's memory held, and the server, which may want more memory to answer, is in this process.
var faults sync.RWMutex

// forget has the kernel drop what it keeps of the file.
func forget(f *os.File) error {
	faults.Lock()
	defer faults.Unlock()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

func mapRandomly(t *testing.T, s *erofstest.Sample, f *os.File, n *erofs.Node, r *rand.Rand, want []byte) {
	off := place(n, r) &^ (erofs.BlockSize - 1)
	length := int(min(n.Size-off, 100_000))
	if length <= 0 {
		return
	}
	m, err := unix.Mmap(int(f.Fd()), off, length, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Errorf("%s: map %d bytes at %d: %v", f.Name(), length, off, err)
		return
	}
	defer unix.Munmap(m)
	// The pages come within a system call: a fault of our own would stop the collector, and with it the server in this process.
	fd, err := unix.MemfdCreate("copy", unix.MFD_CLOEXEC)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(fd)
	got := make([]byte, length)
	faults.RLock()
	defer faults.RUnlock()
	if n, err := unix.Write(fd, m); err != nil || n != length {
		t.Errorf("%s: copy %d bytes from the mapping at %d: %d, %v", f.Name(), length, off, n, err)
	} else if _, err := unix.Pread(fd, got, 0); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, want[:s.Expect(n, off, want[:length])]) {
		t.Errorf("%s: other bytes in the mapping of %d at %d", f.Name(), length, off)
	}
}

// TestSeek finds the extents by lseek, as cp and tar do.
func TestSeek(t *testing.T) {
	s, img, dev := sample(t)
	root := mount(t, fusefs.New(img, dev, fusefs.Options{}))
	for _, e := range s.Root.Entries {
		if e.Node.Mode&unix.S_IFMT != unix.S_IFREG || e.Node.Size < erofs.BlockSize {
			continue
		}
		f, err := os.Open(filepath.Join(root, e.Name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var got, want []string
		for off := int64(0); ; {
			start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
			if err == unix.ENXIO {
				break
			}
			end, err2 := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
			if err != nil || err2 != nil {
				t.Fatal(err, err2)
			}
			got, off = append(got, fmt.Sprint(start, end)), end
		}
		for _, x := range e.Node.Extents {
			want = append(want, fmt.Sprint(x.Offset, x.Offset+x.Size))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: data at %v, want %v", e.Name, got, want)
		}
	}
}

// TestCached does everything again: the kernel asks nothing. When it needs memory, or somebody has it drop its caches, it does; so a few
// rounds are tried.
func TestCached(t *testing.T) {
	_, img, dev := sample(t)
	c := &counter{RawFileSystem: fusefs.New(img, dev, fusefs.Options{})}
	root := mount(t, c)
	all := func() {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "sh", "-c", `cd "$1" && find . -mmin +1 >/dev/null && cat plain-* sparse link-* >/dev/null && readlink symlink-60 && ! stat nothing 2>/dev/null`, "sh", root).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	all()
	first := c.all()
	before, after := first, []int64(nil)
	for range 5 {
		all()
		if after = c.all(); slices.Equal(before, after) {
			break
		}
		before, after = after, nil
	}
	if after == nil {
		t.Errorf("lookups, attributes, lists, opens, reads, targets: %v at first, %v after five rounds", first, before)
	}
	if opens := c.opens.Load(); opens != 2 {
		t.Errorf("%d opens, want one of a file and one of a directory", opens)
	}
	t.Logf("lookups, attributes, lists, opens, reads, targets: %v", first)
}

// TestStatFs and the hook for access.
func TestStatFs(t *testing.T) {
	s, img, dev := sample(t)
	var mu sync.Mutex
	read := map[uint64]int{}
	root := mount(t, fusefs.New(img, dev, fusefs.Options{OnRead: func(nid uint64, n int) {
		mu.Lock()
		defer mu.Unlock()
		read[nid] += n
	}}))
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		t.Fatal(err)
	}
	if want := uint64(img.Size()+int64(len(s.Data))) / erofs.BlockSize; st.Blocks != want || st.Bfree != 0 || st.Files != uint64(img.Inodes()) || st.Namelen != 255 {
		t.Errorf("%+v, want %d blocks and %d files", st, want, img.Inodes())
	}
	if _, err := os.ReadFile(filepath.Join(root, "plain-100000")); err != nil {
		t.Fatal(err)
	}
	nid, err := img.Lookup(img.Root(), "plain-100000")
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(read) != 1 || read[nid] != 100_000 {
		t.Errorf("told of %v", read)
	}
}
