package root

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// left finds the processes that live in this root besides this one, and gives the files that they run, have mapped or name in their
// arguments, such as the program that a keeper starts again: by path, without links. nil says that there are no such processes.
func left() (map[string]bool, error) {
	var here unix.Stat_t
	if err := unix.Stat("/", &here); err != nil {
		return nil, err
	}
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes that live on: %w", err)
	}
	var files map[string]bool
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", n.Name())
		var its unix.Stat_t
		if err := unix.Stat(dir+"/root", &its); err != nil || its.Dev != here.Dev || its.Ino != here.Ino {
			continue // it has gone, or is in a root of its own
		}
		exe, err := os.Readlink(dir + "/exe")
		if err != nil {
			continue // it has gone, or is one of the kernel's
		}
		if files == nil {
			files = map[string]bool{}
		}
		for _, path := range append(named(dir), exe) {
			if real, err := filepath.EvalSymlinks(path); err == nil {
				files[real] = true
			}
		}
	}
	return files, nil
}

// named lists the files that a process has mapped, and the absolute paths among its arguments.
func named(dir string) (paths []string) {
	maps, _ := os.ReadFile(dir + "/maps") // of one that goes just now there are none
	for line := range strings.Lines(string(maps)) {
		if at := strings.IndexByte(line, '/'); at >= 0 {
			paths = append(paths, strings.TrimSuffix(line[at:], "\n"))
		}
	}
	args, _ := os.ReadFile(dir + "/cmdline")
	for arg := range bytes.SplitSeq(args, []byte{0}) {
		if filepath.IsAbs(string(arg)) {
			paths = append(paths, string(arg))
		}
	}
	return paths
}

// free removes the files of this root, so that they take no memory any more. When stay is not nil somebody is left: then only kernel modules,
// firmware and programs go, without those in stay. What cannot be removed stays.
func free(stay map[string]bool) {
	var dirs []string
	_ = walk("/", func(path string, st fs.FileInfo) error {
		switch {
		case st.IsDir():
			dirs = append(dirs, path)
		case stay == nil || !stay[path] && st.Mode().IsRegular() && idle(path, st):
			_ = os.Remove(path)
		}
		return nil
	})
	if stay != nil {
		return
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		_ = os.Remove(dirs[i]) // a mountpoint stays
	}
}

// idle says whether a file is of no use to those who are left: a part of the kernel, or a program.
func idle(path string, st fs.FileInfo) bool {
	for _, dir := range []string{"/lib/modules/", "/lib/firmware/"} {
		if strings.HasPrefix(path, dir) || strings.HasPrefix(path, "/usr"+dir) {
			return true
		}
	}
	if st.Mode()&0o111 == 0 {
		return false
	}
	for _, dir := range []string{"", "/usr", "/usr/local"} {
		for _, programs := range []string{"/bin/", "/sbin/", "/bbin/", "/libexec/"} {
			if strings.HasPrefix(path, dir+programs) {
				return true
			}
		}
	}
	return path == "/init"
}

// Executable says whether path is a program in the image at dir.
func Executable(dir, path string) error {
	f, err := open(dir, path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Mode()&0o111 == 0) {
		err = errors.New("it is no program")
	}
	return err
}
