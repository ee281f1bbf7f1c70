package sametree_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/sametree"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeTree makes a tree to be copied and changed.
func makeTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "want")
	in := func(p string) string { return filepath.Join(dir, p) }
	check(t, os.MkdirAll(in("d/e"), 0o755))
	check(t, os.WriteFile(in("d/file"), []byte(strings.Repeat("content ", 100_000)), 0o640))
	check(t, os.WriteFile(in("d/\xff\n"), []byte("x"), 0o644))
	check(t, os.WriteFile(in("empty"), nil, 0o644))
	check(t, os.WriteFile(in("zeros"), make([]byte, 1<<20), 0o644))
	check(t, os.WriteFile(in("a"), []byte("linked"), 0o644))
	check(t, os.Link(in("a"), in("d/b")))
	check(t, os.Link(in("a"), in("z")))
	check(t, os.Symlink("d/file", in("link")))
	check(t, unix.Mknod(in("null"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
	check(t, unix.Mkfifo(in("fifo"), 0o600))
	check(t, unix.Mknod(in("socket"), unix.S_IFSOCK|0o600, 0))
	for _, name := range []string{"fifo", "socket"} { // of one time: in a test they become one file
		check(t, unix.UtimesNanoAt(unix.AT_FDCWD, in(name), []unix.Timespec{{Sec: 1e9}, {Sec: 1e9}}, 0))
	}
	check(t, unix.Setxattr(in("d/file"), "user.x", []byte("1"), 0))
	check(t, unix.Lsetxattr(in("link"), "trusted.y", []byte("2"), 0))
	f, err := os.Create(in("sparse"))
	check(t, err)
	_, err = f.WriteAt([]byte("data"), 10<<20)
	check(t, err)
	check(t, f.Truncate(1<<40))
	check(t, f.Close())
	return dir
}

func clone(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "got")
	if out, err := exec.Command("cp", "-a", "--sparse=auto", dir, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	return to
}

func TestSameTrees(t *testing.T) {
	want := makeTree(t)
	sametree.Compare(t, want, want)
	got := clone(t, want)
	sametree.Compare(t, want, got)
	r := sametree.Diff(t.Context(), want, got, sametree.Options{})
	if r.Paths != 15 || r.Files != 6 || r.Bytes < 1_800_000 || r.Bytes > 4<<20 {
		t.Errorf("compared: %d paths, %d files, %d bytes", r.Paths, r.Files, r.Bytes)
	}
	// The zeros of one tree are a hole in the other.
	var st unix.Stat_t
	check(t, unix.Stat(filepath.Join(want, "zeros"), &st))
	check(t, os.Truncate(filepath.Join(got, "zeros"), 0))
	check(t, os.Truncate(filepath.Join(got, "zeros"), 1<<20))
	check(t, os.Chtimes(filepath.Join(got, "zeros"), time.Time{}, time.Unix(st.Mtim.Unix())))
	sametree.Compare(t, want, got)
}

func TestEveryDifferenceIsFound(t *testing.T) {
	want := makeTree(t)
	write := func(p string, at int64, b string) error {
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		check(t, err)
		defer f.Close()
		_, err = f.WriteAt([]byte(b), at)
		return err
	}
	for _, c := range []struct {
		name   string
		change func(in func(string) string) error
		lines  []string
	}{
		{"mode", func(in func(string) string) error { return unix.Chmod(in("d/e"), 0o1755) }, []string{`"d/e": has mode 1755, want 0755`}},
		{"owner", func(in func(string) string) error { return os.Lchown(in("link"), 3, 4) }, []string{`"link": is owned by 3:4, want 0:0`}},
		{"a nanosecond", func(in func(string) string) error { return nudge(t, in("link"), 0, 1) }, []string{`"link": was changed at `}},
		{"a second", func(in func(string) string) error { return nudge(t, in("."), 1, 0) }, []string{`".": was changed at `}},
		{"a byte", func(in func(string) string) error { return write(in("d/file"), 600_000, "X") },
			[]string{`"d/file": its content differs at byte 600000: 58 6f 6e 74 65 6e 74 20`}},
		{"the last byte", func(in func(string) string) error { return write(in("d/file"), 799_999, "X") }, []string{`"d/file": its content differs at byte 799999: 58, want 20 (1 bytes`}},
		{"a byte in a hole", func(in func(string) string) error { return write(in("sparse"), 1<<39, "X") }, []string{`"sparse": its content differs at byte 549755813888: 58 00`}},
		{"a byte in zeros", func(in func(string) string) error { return write(in("zeros"), 77, "X") }, []string{`"zeros": its content differs at byte 77: 58 00`}},
		{"shorter", func(in func(string) string) error { return os.Truncate(in("d/file"), 799_999) }, []string{`"d/file": has 799999 bytes, want 800000`}},
		{"longer", func(in func(string) string) error { return write(in("empty"), 0, "X") }, []string{`"empty": has 1 bytes, want 0`}},
		{"gone", func(in func(string) string) error { return os.Remove(in("d/\xff\n")) }, []string{`"d/\xff\n": is not there`}},
		{"too many", func(in func(string) string) error { return os.WriteFile(in("more"), nil, 0o600) }, []string{`"more": is there, and should not be`}},
		{"another target", func(in func(string) string) error {
			check(t, os.Remove(in("link")))
			check(t, os.Symlink("d/fool", in("link")))
			return unix.Lsetxattr(in("link"), "trusted.y", []byte("2"), 0)
		}, []string{`"link": is a link to "d/fool", want "d/file"`}},
		{"another type", func(in func(string) string) error {
			check(t, os.Remove(in("fifo")))
			return os.Mkdir(in("fifo"), 0o700)
		}, []string{`"fifo": is a directory, want a fifo`}},
		{"another device", func(in func(string) string) error {
			check(t, os.Remove(in("null")))
			check(t, unix.Mknod(in("null"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))))
			return unix.Chmod(in("null"), 0o644)
		}, []string{`"null": is device 1:5, want 1:3`}},
		{"xattr changed", func(in func(string) string) error { return unix.Setxattr(in("d/file"), "user.x", []byte("2"), 0) },
			[]string{`"d/file": has for user.x "2", want "1"`}},
		{"xattr gone", func(in func(string) string) error { return unix.Lremovexattr(in("link"), "trusted.y") },
			[]string{`"link": has for trusted.y nothing, want "2"`}},
		{"xattr more", func(in func(string) string) error { return unix.Setxattr(in("d"), "user.z", nil, 0) },
			[]string{`"d": has for user.z "", want nothing`}},
		{"a link broken", func(in func(string) string) error {
			check(t, os.Remove(in("z")))
			return os.WriteFile(in("z"), []byte("linked"), 0o644)
		}, []string{`"a": has a link count of 2, want 3`, `"z": is no link of a name before it, want a link of "a"`}},
		{"linked to another", func(in func(string) string) error {
			check(t, os.Remove(in("empty")))
			return os.Link(in("fifo"), in("empty"))
		}, []string{`"empty": is a fifo, want a file`, `"fifo": has a link count of 2, want 1`}},
		{"linked too much", func(in func(string) string) error {
			check(t, os.Remove(in("socket")))
			check(t, os.Link(in("fifo"), in("socket")))
			return nil
		}, []string{`"fifo": has a link count of 2, want 1`, `"socket": is a fifo, want a socket`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := clone(t, want)
			in := func(p string) string { return filepath.Join(got, p) }
			check(t, c.change(in))
			keepTimes(t, want, got, c.name)
			r := sametree.Diff(t.Context(), want, got, sametree.Options{})
			if len(r.Lines) != len(c.lines) {
				t.Fatalf("it found other differences: %s", r)
			}
			for i, line := range r.Lines {
				if !strings.HasPrefix(line, c.lines[i]) {
					t.Errorf("it says %s, want %s", line, c.lines[i])
				}
			}
		})
	}
}

// nudge moves the time of a file.
func nudge(t *testing.T, p string, sec, nsec int64) error {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Lstat(p, &st))
	ts := unix.Timespec{Sec: st.Mtim.Sec + sec, Nsec: (st.Mtim.Nsec + nsec) % 1e9}
	return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// keepTimes gives what the change has touched by the way its time back.
func keepTimes(t *testing.T, want, got, name string) {
	t.Helper()
	if strings.HasSuffix(name, "second") {
		return
	}
	check(t, filepath.WalkDir(got, func(p string, _ os.DirEntry, err error) error {
		rel, _ := filepath.Rel(got, p)
		var st unix.Stat_t
		if err != nil || unix.Lstat(filepath.Join(want, rel), &st) != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{st.Mtim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}))
}

func TestWhatMayDiffer(t *testing.T) {
	want := makeTree(t)
	got := clone(t, want)
	in := func(p string) string { return filepath.Join(got, p) }
	check(t, unix.Setxattr(in("d"), "user.z", nil, 0))
	check(t, os.WriteFile(in("d/e/more"), nil, 0o600))
	check(t, os.Remove(in("socket")))
	keepTimes(t, want, got, "")
	check(t, nudge(t, in("a"), 0, 5))
	if r := sametree.Diff(t.Context(), want, got, sametree.Options{}); len(r.Lines) != 6 { // the file that changed has three names
		t.Errorf("without options: %s", r)
	}
	sametree.CompareWith(t, want, got, sametree.Options{
		Seconds: true,
		Xattr:   func(name string) bool { return name != "user.z" },
		Path:    func(path string) bool { return path != "d/e/more" && path != "socket" },
	})
	r := sametree.Diff(t.Context(), want, got, sametree.Options{Metadata: true, Parallel: 1})
	if r.Files != 0 || r.Paths != 14 {
		t.Errorf("without content: %d files of %d paths", r.Files, r.Paths)
	}
}

func TestTreesThatCannotBeRead(t *testing.T) {
	want := makeTree(t)
	if r := sametree.Diff(t.Context(), want, filepath.Join(want, "nowhere"), sametree.Options{}); len(r.Lines) != 1 || !strings.Contains(r.String(), "no such file") {
		t.Errorf("nothing there: %s", r)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := sametree.Diff(ctx, want, want, sametree.Options{}); len(r.Lines) != 1 || !strings.Contains(r.String(), "canceled") {
		t.Errorf("ended: %s", r)
	}
}

func TestALongReportIsCut(t *testing.T) {
	want, got := t.TempDir(), t.TempDir()
	for i := range 100 {
		check(t, os.WriteFile(filepath.Join(got, strings.Repeat("x", i+1)), nil, 0o600))
	}
	keepTimes(t, want, got, "")
	r := sametree.Diff(t.Context(), want, got, sametree.Options{})
	if s := r.String(); len(r.Lines) != 100 || strings.Count(s, "\n") != 61 || !strings.Contains(s, "and 40 more") {
		t.Errorf("it has %d lines: %s", len(r.Lines), s)
	}
}
