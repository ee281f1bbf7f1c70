package source_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/windlass-hpc/windlass/chunkfs/source"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func squash(t testing.TB, dir string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tree.squashfs")
	run(t, dir, "mksquashfs", append([]string{".", file, "-quiet", "-no-progress", "-processors", "2"}, args...)...)
	return file
}

// smallTree is one whose images are small: many changes of them can be tried.
func smallTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "d/e"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "d/a"), noise(9000), 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "d/e/b"), []byte(strings.Repeat("text ", 3000)), 0o600))
	check(t, os.Link(filepath.Join(dir, "d/a"), filepath.Join(dir, "c")))
	check(t, os.Symlink("d/a", filepath.Join(dir, "s")))
	makeSparse(t, filepath.Join(dir, "sparse"), 100<<10, 40<<10)
	return dir
}

func TestDamagedSquashfs(t *testing.T) {
	for _, args := range [][]string{{"-comp", "gzip"}, {"-comp", "zstd"}, {"-comp", "xz"}, {"-comp", "lz4"}, {"-comp", "lzo"}, {"-noI", "-noD", "-noF", "-noX"}} {
		b, err := os.ReadFile(squash(t, smallTree(t), append(args, "-b", "4K", "-nopad")...))
		check(t, err)
		file := filepath.Join(t.TempDir(), "damaged")
		try := func(b []byte) error {
			check(t, os.WriteFile(file, b, 0o600))
			f, err := os.Open(file)
			check(t, err)
			src, err := source.Squashfs(f, source.Options{})
			if err != nil {
				return err
			}
			defer src.Close()
			_, err = tryRead(t, src)
			return err
		}
		check(t, try(b))
		for n := 0; n < len(b); n += 1 + len(b)/60 {
			if err := try(b[:n]); !fault.Is(err, fault.Corrupt) {
				t.Fatalf("%v: cut off at %d of %d: %v", args, n, len(b), err)
			}
		}
		for n := 0; n < len(b); n += 1 + len(b)/200 {
			c := bytes.Clone(b)
			c[n] ^= 1 << (n % 8)
			if err := try(c); err != nil && !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) && !fault.Is(err, fault.TooLarge) {
				t.Fatalf("%v: with a bit changed at %d: %v", args, n, err)
			}
		}
	}
}

func TestFilesOfOneSquashfsCanBeReadAtOnce(t *testing.T) {
	src := open(t, squash(t, makeTree(t)), source.Options{})
	var items []source.Item
	check(t, src.Walk(t.Context(), func(i source.Item) error {
		if i.Open != nil {
			items = append(items, i)
		}
		return nil
	}))
	want := map[string]string{}
	for _, i := range items {
		var err error
		want[i.Path], err = sum(i)
		check(t, err)
	}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for k := range items {
				i := items[(k*(2*n+1)+n)%len(items)]
				if got, err := sum(i); err != nil || got != want[i.Path] {
					t.Errorf("%s: %s, %v", i.Path, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestADirectoryThatIsInItself(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "above/looping"), 0o755))
	file := squash(t, dir, "-noI")
	b, err := os.ReadFile(file)
	check(t, err)
	at := bytes.Index(b, []byte("looping")) - 8 // the entry begins with where in its block the inode is
	copy(b[at:], b[32:34])                      // the root's
	check(t, os.WriteFile(file, b, 0o600))
	if _, err := tryRead(t, open(t, file, source.Options{})); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "another name") {
		t.Errorf("a loop: %v", err)
	}
}

func TestSquashfsThatIsNotRead(t *testing.T) {
	lzma := squash(t, smallTree(t), "-comp", "lzma")
	_, err := source.Open(t.Context(), lzma, source.Options{})
	if !fault.Is(err, fault.Unsupported) || !strings.Contains(fault.HintOf(err), "mksquashfs") {
		t.Errorf("lzma: %v (%s)", err, fault.HintOf(err))
	}
	b, err := os.ReadFile(lzma)
	check(t, err)
	b[28] = 3
	check(t, os.WriteFile(lzma, b, 0o600))
	if _, err := source.Open(t.Context(), lzma, source.Options{}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("version 3: %v", err)
	}
	if err := os.Remove(lzma); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// FuzzSquashfs reads what may be a squashfs; it must not panic, hang, or give what no file system holds.
func FuzzSquashfs(f *testing.F) {
	for _, p := range []string{"testdata/plain.squashfs", "testdata/zstd.squashfs"} {
		b, err := os.ReadFile(p)
		check(f, err)
		f.Add(b)
	}
	file := filepath.Join(f.TempDir(), "fuzz")
	f.Fuzz(func(t *testing.T, b []byte) {
		check(t, os.WriteFile(file, b, 0o600))
		in, err := os.Open(file)
		check(t, err)
		src, err := source.Squashfs(in, source.Options{})
		if err != nil {
			return
		}
		defer src.Close()
		readBounded(t, src)
	})
}
