package root

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Next is the first process of the next root.
type Next struct {
	Program string   // its path there
	Args    []string // what comes after its name
	Env     []string
}

// Switch makes the mount at dir the root of the node and starts its first process in place of this one. What is mounted on /dev, /proc, /sys
// and /run goes along. It only comes back when it failed.
//
// A process that lives on, as the server of the image that becomes the root, stays in the old root, which nobody else sees any more: what it
// reads must not come from the file system that it serves. So this is not pivot_root(2), which would take it along. The old root keeps the
// same /dev, /proc, /sys and /run then, and what such processes need; the rest of its files is freed, and all of them when nobody is left.
func Switch(dir string, next Next) error {
	if err := os.MkdirAll(place, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(dir, place, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the image's mount: %w", err)
	}
	stay, err := left()
	if err == nil {
		err = takeAlong(stay != nil)
	}
	if err != nil {
		_ = unix.Mount(place, dir, "", unix.MS_MOVE, "")
		return err
	}
	_ = unix.Unmount("/tmp", unix.MNT_DETACH) // nobody uses it any more
	free(stay)
	if err := enter(place); err != nil {
		return fmt.Errorf("go to the image's root: %w", err)
	}
	standardFiles()
	return fmt.Errorf("start %s: %w", next.Program, unix.Exec(next.Program, append([]string{next.Program}, next.Args...), next.Env))
}

// takeAlong puts what the kernel shows, and /run, into the next root; shared says whether the old one keeps it, too. When it fails all is as it
// was, but for directories that the image did not have: a node without its /dev and /proc could not go on.
func takeAlong(shared bool) (err error) {
	var undo []func()
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			undo[i]()
		}
	}()
	for _, d := range []string{"/dev", "/proc", "/sys", "/run"} {
		to := filepath.Join(place, d)
		if err := makeDir(to); err != nil {
			return fmt.Errorf("the image's %s: %w", d, err)
		}
		if there, err := mounted(d); err != nil || !there {
			continue // the kernel has it not, which was told
		}
		flags, back := uintptr(unix.MS_MOVE), func() { _ = unix.Mount(to, d, "", unix.MS_MOVE, "") }
		if shared {
			flags, back = unix.MS_BIND|unix.MS_REC, func() { _ = unix.Unmount(to, unix.MNT_DETACH) }
		}
		if err := unix.Mount(d, to, "", flags, ""); err != nil {
			return fmt.Errorf("mount %s in the image: %w", d, err)
		}
		undo = append(undo, back)
	}
	return nil
}

// makeDir sees to it that there is a directory.
func makeDir(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return os.Mkdir(path, 0o755)
	}
	if !st.IsDir() {
		return errors.New("it is no directory")
	}
	return nil
}

// enter puts the mount at dir over the root, and goes there.
func enter(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// standardFiles opens the console as standard input, output and error, as the kernel does for its first process; those of the initramfs may be
// others. Without a console they stay.
func standardFiles() {
	fd, err := unix.Open("/dev/console", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for to := range 3 {
		_ = unix.Dup3(fd, to, 0)
	}
}
