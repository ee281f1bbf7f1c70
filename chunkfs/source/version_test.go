package source

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A version is given to what has not changed for a while, and is another after every change, also one that sets the times back.
func TestVersionOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	look := func(content string) *unix.Statx_t {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(1000, 0), time.Unix(1000, 0)); err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Open(path, unix.O_PATH, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		st, err := statx(fd)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	before := look("one")
	if v := version(before, time.Now()); v != "" {
		t.Errorf("a file that has just changed has the version %q", v)
	}
	later := time.Now().Add(time.Minute)
	if version(before, later) == "" {
		t.Error("a file that has not changed for a while has none")
	}
	for { // until the clock of the file system has gone on
		if after := look("two"); after.Ctime != before.Ctime {
			if version(after, later) == version(before, later) {
				t.Error("a change does not show")
			}
			return
		}
	}
}
