package lazyfs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/windlass-hpc/windlass/test/daemon"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(readVar); dir != "" {
		if err := readFor(dir, os.Getenv(treeVar)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	shared.remove()
	daemon.Clean()
	os.Exit(code)
}

// image is an image in a store, and what it was built from.
type image struct {
	tag, digest string
	store       string // directory
	tree        string // directory
	files       []file // whose content a reader can know
	stored      int64  // bytes of its packs
}

// file is one file of an image. Its path is relative.
type file struct {
	path string
	data []byte
}

// shared keeps the images that most tests read: they are built once, and no test changes them.
var shared images

type images struct {
	mu    sync.Mutex
	dir   string
	first *image
	next  *image
}

// pair gives two images of one store, of 45 MB each, which have half of their content in common.
func (i *images) pair(t *testing.T) (first, next *image) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.next != nil {
		return i.first, i.next
	}
	var err error
	if i.dir, err = os.MkdirTemp(disk, "windlass-lazyfs-"); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(i.dir, "store")
	i.first = build(t, plain(t, filepath.Join(i.dir, "first"), 0), store, "test/first")
	i.next = build(t, plain(t, filepath.Join(i.dir, "next"), 1), store, "test/next")
	return i.first, i.next
}

func (i *images) remove() {
	if i.dir != "" {
		os.RemoveAll(i.dir)
	}
}

// plain makes a tree of files with content that compresses to about half; a third of the files is the same for all versions.
func plain(t *testing.T, dir string, version byte) *image {
	t.Helper()
	img := &image{tree: dir}
	sizes := []int{0, 1, 511, 513, 4095, 4096, 4097, 10_000, 20_000, 33_333, 65_536, 100_001}
	for n := range 180 {
		img.files = append(img.files, file{path: fmt.Sprintf("d%d/small-%d", n%9, n), data: make([]byte, sizes[n%len(sizes)]+n)})
	}
	for n := range 24 {
		img.files = append(img.files, file{path: fmt.Sprintf("lib/mid-%d", n), data: make([]byte, 400_000+n*7919)})
	}
	for n := range 4 {
		img.files = append(img.files, file{path: fmt.Sprintf("big-%d", n), data: make([]byte, 7_000_000+n*4095)})
	}
	for n, f := range img.files {
		seed := [32]byte{byte(n), byte(n >> 8), 0}
		if n%3 != 0 {
			seed[2] = version
		}
		fill(f.data, seed)
		path := filepath.Join(dir, f.path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, f.data, 0o644))
	}
	return img
}

// fill writes random words and repetitions.
func fill(b []byte, seed [32]byte) {
	random := rand.NewChaCha8(seed)
	_, _ = random.Read(b)
	for at := 0; at+64 <= len(b); at += 64 {
		copy(b[at+32:at+64], b[at:at+32])
	}
}

// build makes an image of img.tree, as a user does.
func build(t *testing.T, img *image, store, tag string) *image {
	t.Helper()
	cmd := exec.Command(daemon.Build(t).Windlass, "image", "build", img.tree, "-o", store, "--tag", tag)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	line, err := os.ReadFile(filepath.Join(store, "tags", tag))
	must(t, err)
	img.tag, img.store, img.digest = tag, store, strings.TrimSpace(string(line))
	must(t, filepath.Walk(filepath.Join(store, "blobs"), func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			img.stored += info.Size()
		}
		return err
	}))
	return img
}

// whole reads every file below dir once and compares it.
func (i *image) whole(t *testing.T, dir string) {
	t.Helper()
	for _, f := range i.files {
		got, err := os.ReadFile(filepath.Join(dir, f.path))
		if err != nil {
			t.Errorf("read: %v", err)
		} else if !bytes.Equal(got, f.data) {
			t.Errorf("%s: wrong content", f.path)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
