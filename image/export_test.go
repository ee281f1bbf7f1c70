package image_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/erofs/erofstest"
	"github.com/windlass-hpc/windlass/image"
	"github.com/windlass-hpc/windlass/internal/fault"
)

func TestAnExportedErofsIsTheTree(t *testing.T) {
	s, img := sample(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "out.erofs")
	if err := img.ErofsFile(t.Context(), file, image.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	run(t, "fsck.erofs", file)
	at := filepath.Join(dir, "mnt")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	mount(t, file, "erofs", at, unix.MS_RDONLY)
	s.Compare(t, at)
	first, _ := os.ReadFile(file)
	if err := img.ErofsFile(t.Context(), file+"2", image.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(file + "2"); err != nil || !bytes.Equal(first, again) {
		t.Error("the second export differs")
	}
}

func socket(_ string, n *erofs.Node) bool { return n.Mode&unix.S_IFMT == unix.S_IFSOCK }

// TestAnExportedTarIsTheTree lets GNU tar unpack it, which knows neither a terabyte of holes in a hurry nor sockets.
func TestAnExportedTarIsTheTree(t *testing.T) {
	s, img := sample(t)
	dir := tmpfs(t)
	var first, again bytes.Buffer
	var skipped []string
	if err := img.Tar(t.Context(), &first, image.ExportOptions{Skipped: func(path, what string) { skipped = append(skipped, path) }}); err != nil {
		t.Fatal(err)
	}
	if err := img.Tar(t.Context(), &again, image.ExportOptions{}); err != nil || !bytes.Equal(first.Bytes(), again.Bytes()) {
		t.Fatalf("the second export differs: %v", err)
	}
	if !slices.Contains(skipped, "socket") || slices.Contains(skipped, "fifo") {
		t.Errorf("skipped: %.300q", skipped)
	}
	file, tree := dir+"/out.tar", dir+"/tree"
	if err := os.WriteFile(file, first.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "tar", "-C", tree, "--xattrs", "--xattrs-include=*", "--acls", "--same-owner", "-xpf", file)
	s.Root = without(s.Root, socket)
	s.Compare(t, tree)
}

func TestAnExportedSquashfsIsTheTree(t *testing.T) {
	s, _ := sample(t)
	s.Root = without(s.Root, func(name string, _ *erofs.Node) bool { return name == "huge" }) // whose blocks squashfs lists one by one
	st := newStore(t)
	publish(t, st, "sample", s.Root, s.Data, 1)
	img, dir := find(t, st.Dir(), "sample"), t.TempDir()
	file, at := filepath.Join(dir, "out.squashfs"), filepath.Join(dir, "mnt")
	var skipped []string
	if err := img.SquashfsFile(t.Context(), file, image.ExportOptions{Skipped: func(path, what string) { skipped = append(skipped, path+": "+what) }}); err != nil {
		t.Fatal(err)
	}
	skipped = slices.DeleteFunc(skipped, func(s string) bool { return strings.Contains(s, "it is a socket") })
	if len(skipped) != 2 || !strings.Contains(skipped[0], "posix_acl_access") {
		t.Errorf("skipped: %q", skipped)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop,ro", file, at)
	t.Cleanup(func() { run(t, "umount", at) })
	s.Root = without(s.Root, socket)
	squash(s.Root, map[*erofs.Node]bool{})
	var root unix.Stat_t
	if err := unix.Stat(at, &root); err != nil {
		t.Fatal(err)
	}
	s.Root.ModTime = time.Unix(root.Mtim.Unix()) // it is another one
	s.Compare(t, at)
	if exists(file + ".part") {
		t.Error("the unfinished file is still there")
	}
}

// squash makes a tree what squashfs can hold: seconds of 32 bits, no access lists.
func squash(n *erofs.Node, done map[*erofs.Node]bool) {
	if done[n] {
		return
	}
	done[n] = true
	sec := min(max(n.ModTime.Unix(), 0), 1<<32-1)
	n.ModTime = time.Unix(sec, 0).UTC()
	n.Xattrs = slices.DeleteFunc(n.Xattrs, func(x erofs.Xattr) bool { return strings.HasPrefix(x.Name, "system.") })
	for _, e := range n.Entries {
		squash(e.Node, done)
	}
}

// TestTheSameImageGivesTheSameSquashfs: nothing of it has the time of the export.
func TestTheSameImageGivesTheSameSquashfs(t *testing.T) {
	const latest = 1_500_000_000
	file := erofstest.Node(unix.S_IFREG | 0o600)
	file.ModTime = time.Unix(latest, 0)
	root := erofstest.Dir(erofs.Entry{Name: "f", Node: file})
	root.ModTime = time.Unix(1_400_000_000, 0)
	st := newStore(t)
	publish(t, st, "a", root, nil, 1)
	dir := t.TempDir()
	out, at := filepath.Join(dir, "out"), filepath.Join(dir, "mnt")
	if err := find(t, st.Dir(), "a").SquashfsFile(t.Context(), out, image.ExportOptions{}); err != nil {
		t.Fatal(err)
	}
	if stat := run(t, "unsquashfs", "-mkfs-time", out); strings.TrimSpace(stat) != "1500000000" {
		t.Errorf("made at %s", stat)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	run(t, "mount", "-o", "loop,ro", out, at)
	t.Cleanup(func() { run(t, "umount", at) })
	var st2 unix.Stat_t
	if err := unix.Stat(at, &st2); err != nil || st2.Mtim.Sec != latest {
		t.Errorf("the root is of %d, %v", st2.Mtim.Sec, err)
	}
}

func TestWithoutMksquashfsTheErrorSaysWhatToDo(t *testing.T) {
	st := newStore(t)
	publish(t, st, "a", erofstest.Dir(), nil, 1)
	t.Setenv("PATH", t.TempDir())
	err := find(t, st.Dir(), "a").SquashfsFile(t.Context(), filepath.Join(t.TempDir(), "x"), image.ExportOptions{})
	wantKind(t, err, fault.Unsupported, "mksquashfs")
	if !strings.Contains(fault.HintOf(err), "squashfs-tools") {
		t.Errorf("the hint: %q", fault.HintOf(err))
	}
}

func TestAnExportDoesNotReplaceWhatIsNoFile(t *testing.T) {
	st := newStore(t)
	publish(t, st, "a", erofstest.Dir(), nil, 1)
	img := find(t, st.Dir(), "a")
	dir := t.TempDir()
	wantKind(t, img.ErofsFile(t.Context(), dir, image.ExportOptions{}), fault.Invalid, "not a regular file")
	wantKind(t, img.TarFile(t.Context(), "/dev/null", image.ExportOptions{}), fault.Invalid)
}
