package source_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/chunkfs/source"
)

// without gives a tree without some paths.
func (x tree) without(paths ...string) tree {
	out := maps.Clone(x)
	for _, p := range paths {
		delete(out, p)
	}
	return out
}

// replaced gives a tree with something else in its lines.
func (x tree) replaced(pattern, by string) tree {
	out, re := tree{}, regexp.MustCompile(pattern)
	for p, line := range x {
		out[p] = re.ReplaceAllString(line, by)
	}
	return out
}

func TestTarGivesWhatTheDirectoryHas(t *testing.T) {
	t.Setenv("XZ_OPT", "-0")
	dir := makeTree(t)
	want := read(t, openDir(t, dir)).without("dev/socket").replaced(` is "dev/null"`, "") // GNU tar knows no sockets and no links of devices
	for _, c := range []struct{ name, args string }{
		{"posix", "--format=posix --xattrs --xattrs-include=*"},
		{"posix.gz", "--format=posix --xattrs --xattrs-include=* -z"},
		{"posix.zst", "--format=posix --xattrs --xattrs-include=* --zstd"},
		{"posix.xz", "--format=posix --xattrs --xattrs-include=* -J"},
		{"sparse-1.0", "--format=posix --xattrs --xattrs-include=* -S --sparse-version=1.0"},
		{"sparse-0.1", "--format=posix --xattrs --xattrs-include=* -S --sparse-version=0.1"},
		{"sparse-0.0", "--format=posix --xattrs --xattrs-include=* -S --sparse-version=0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tree.tar")
			run(t, dir, "tar", append([]string{"-cf", file, "--numeric-owner", "--sort=name"}, append(strings.Fields(c.args), ".")...)...)
			same(t, want, read(t, open(t, file, source.Options{})))
			f, err := os.Open(file)
			check(t, err)
			defer f.Close()
			same(t, want, read(t, open(t, source.Stdin, source.Options{Stdin: f})))
		})
	}
	plain := want.replaced(`(:\d\d)\.\d+Z`, "${1}Z").replaced(` (user|trusted|security|system)\.[^ ]*=[0-9a-f]*`, "")
	for _, args := range []string{"--format=gnu", "--format=gnu -S"} {
		t.Run(args, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tree.tar")
			run(t, dir, "tar", append([]string{"-cf", file, "--numeric-owner"}, append(strings.Fields(args), ".")...)...)
			same(t, plain, read(t, open(t, file, source.Options{})))
		})
	}
}

func TestSquashfsGivesWhatTheDirectoryHas(t *testing.T) {
	dir := makeTree(t)
	check(t, os.Chtimes(filepath.Join(dir, "block"), yearOfUse, yearOfUse)) // squashfs ends in 2106
	want := read(t, openDir(t, dir)).replaced(`(:\d\d)\.\d+Z`, "${1}Z").replaced(` system\.[^ ]*=[0-9a-f]*`, "")
	for _, args := range []string{
		"-comp gzip", "-comp xz", "-comp xz -Xbcj x86", "-comp lz4", "-comp lz4 -Xhc", "-comp lzo", "-comp zstd", "-comp zstd -b 1M", "-comp gzip -b 4K",
		"-noI -noD -noF -noX", "-no-fragments", "-always-use-fragments", "-no-duplicates", "-no-sparse", "-no-exports",
	} {
		t.Run(args, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "tree.squashfs")
			run(t, dir, "mksquashfs", append([]string{".", file, "-quiet", "-no-progress", "-processors", "2"}, strings.Fields(args)...)...)
			same(t, want, read(t, open(t, file, source.Options{})))
		})
	}
}

// yearOfUse is a time that every format can hold.
var yearOfUse = time.Unix(1_700_000_000, 0)
