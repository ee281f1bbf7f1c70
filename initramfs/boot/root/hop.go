package root

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// newRoot is where the tmpfs is made that becomes the root.
const newRoot = "/.root"

// Initial says whether the root is the one that the kernel unpacked the initramfs into: nobody can leave it by pivot_root. It mounts /proc
// for a moment.
func Initial() (bool, error) {
	if err := os.MkdirAll("/proc", 0o555); err != nil {
		return false, err
	}
	if err := unix.Mount("proc", "/proc", "proc", safe, ""); err != nil {
		return false, fmt.Errorf("mount proc: %w", err)
	}
	defer unix.Unmount("/proc", unix.MNT_DETACH) //nolint:errcheck // it is mounted again
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		before, after, ok := strings.Cut(line, " - ")
		if f := strings.Fields(before); ok && len(f) > 4 && f[4] == "/" {
			return strings.HasPrefix(after, "rootfs "), nil
		}
	}
	return true, nil // a kernel that does not show it
}

// Hop moves all files of the initramfs to a tmpfs, makes that the root, and starts program there in place of this process. It only comes back
// when it failed; then the root is what it was, but for files that could not be moved back.
func Hop(program string, args, env []string) error {
	need, err := size("/")
	if err != nil {
		return fmt.Errorf("measure the initramfs: %w", err)
	}
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("root", newRoot, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs for the root: %w", err)
	}
	if err := room(newRoot, need); err != nil {
		_ = unix.Unmount(newRoot, 0)
		return err
	}
	if err := move("/", newRoot); err != nil {
		_ = move(newRoot, "/")
		_ = unix.Unmount(newRoot, unix.MNT_DETACH)
		return fmt.Errorf("move the initramfs to a tmpfs: %w", err)
	}
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("put the tmpfs in the place of the root: %w", err)
	}
	if err := errors.Join(unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("go to the new root: %w", err)
	}
	return fmt.Errorf("start %s: %w", program, unix.Exec(program, args, env))
}

// size is what the files below dir take.
func size(dir string) (n int64, err error) {
	err = walk(dir, func(_ string, st fs.FileInfo) error {
		n += st.Size() + 1024
		return nil
	})
	return n, err
}

func room(dir string, need int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("the initramfs takes %d MiB, and there are %d for it: the node has too little memory", need>>20, free>>20)
	}
	return nil
}

// walk calls fn for all below dir that lies on its file system, directories before what is in them, but for what is mounted there.
func walk(dir string, fn func(path string, st fs.FileInfo) error) error {
	var top unix.Stat_t
	if err := unix.Lstat(dir, &top); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Dev != top.Dev {
			return fs.SkipDir // a mountpoint; there are no others of files
		}
		if path == newRoot || path == place {
			return fs.SkipDir
		}
		return fn(path, st)
	})
}

// move moves all files, one by one, so that memory is needed once.
func move(from, to string) error {
	var dirs []string
	times := map[string]fs.FileInfo{}
	err := walk(from, func(path string, st fs.FileInfo) error {
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		if st.IsDir() {
			dirs = append(dirs, path)
			times[dst] = st
		}
		if err := clone(path, dst, st); err != nil {
			return err
		}
		if st.IsDir() {
			return nil
		}
		return os.Remove(path)
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		_ = os.Remove(dirs[i]) // a mountpoint stays
	}
	for dst, st := range times {
		_ = os.Chtimes(dst, time.Time{}, st.ModTime())
	}
	return nil
}

// clone makes a file like another.
func clone(path, dst string, st fs.FileInfo) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its numbers are not known", path)
	}
	var err error
	switch {
	case st.IsDir():
		if err = os.Mkdir(dst, 0o700); errors.Is(err, os.ErrExist) {
			err = nil
		}
	case st.Mode().IsRegular():
		err = copyFile(path, dst)
	case st.Mode()&fs.ModeSymlink != 0:
		to, readErr := os.Readlink(path)
		if readErr != nil {
			return readErr
		}
		if err := os.Symlink(to, dst); err != nil {
			return err
		}
		return os.Lchown(dst, int(sys.Uid), int(sys.Gid))
	default:
		err = unix.Mknod(dst, sys.Mode, int(sys.Rdev))
	}
	if err != nil {
		return err
	}
	// The owner first: to change it takes the setuid bit away.
	return errors.Join(os.Lchown(dst, int(sys.Uid), int(sys.Gid)), unix.Chmod(dst, sys.Mode&0o7777), os.Chtimes(dst, time.Time{}, st.ModTime()))
}

func copyFile(path, dst string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
