// Package root makes the file systems that a node without a disk runs in: a root that others can leave, what the kernel shows, and the way
// to another root.
package root

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one of the file systems of a node.
type mount struct {
	fs, dir, data string
	flags         uintptr
	optional      bool // nothing is said when the kernel has it not
}

const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

func mounts() []mount {
	return []mount{
		{fs: "proc", dir: "/proc", flags: safe},
		{fs: "sysfs", dir: "/sys", flags: safe},
		{fs: "devtmpfs", dir: "/dev", data: "mode=0755", flags: unix.MS_NOSUID},
		{fs: "devpts", dir: "/dev/pts", data: "gid=5,mode=620,ptmxmode=666", flags: unix.MS_NOSUID | unix.MS_NOEXEC},
		{fs: "tmpfs", dir: "/dev/shm", data: "mode=1777", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{fs: "mqueue", dir: "/dev/mqueue", flags: safe, optional: true},
		{fs: "tmpfs", dir: "/run", data: "mode=755", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{fs: "tmpfs", dir: "/tmp", data: "mode=1777", flags: unix.MS_NOSUID | unix.MS_NODEV},
		{fs: "cgroup2", dir: "/sys/fs/cgroup", data: "nsdelegate", flags: safe},
		{fs: "securityfs", dir: "/sys/kernel/security", flags: safe, optional: true},
		{fs: "tracefs", dir: "/sys/kernel/tracing", flags: safe, optional: true},
		{fs: "debugfs", dir: "/sys/kernel/debug", flags: safe, optional: true},
		{fs: "bpf", dir: "/sys/fs/bpf", data: "mode=700", flags: safe, optional: true},
		{fs: "pstore", dir: "/sys/fs/pstore", flags: safe, optional: true},
		{fs: "efivarfs", dir: "/sys/firmware/efi/efivars", flags: safe | unix.MS_RDONLY, optional: true},
	}
}

// Mount mounts what is not there below prefix, "" on a node, and gives the directories. What could not be mounted is told and the rest is
// mounted: a node that lacks one may do.
func Mount(prefix string) (done []string, err error) {
	var errs []error
	for _, m := range mounts() {
		dir := prefix + m.dir
		if m.optional && strings.HasPrefix(m.dir, "/sys/") {
			if _, err := os.Stat(dir); err != nil {
				continue // the kernel makes the directory when it has the file system
			}
		}
		switch made, err := m.mount(dir); {
		case made:
			done = append(done, m.dir)
		case err != nil && !m.optional:
			errs = append(errs, err)
		}
	}
	errs = append(errs, links(prefix))
	return done, errors.Join(errs...)
}

func (m mount) mount(dir string) (made bool, err error) {
	if there, err := mounted(dir); err == nil && there {
		return false, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	if err := unix.Mount(m.fs, dir, m.fs, m.flags, m.data); err != nil {
		return false, fmt.Errorf("mount %s on %s: %w", m.fs, m.dir, err)
	}
	return true, nil
}

// mounted says whether dir is a mountpoint already.
func mounted(dir string) (bool, error) {
	var at, above unix.Stat_t
	if err := errors.Join(unix.Lstat(dir, &at), unix.Lstat(filepath.Dir(dir), &above)); err != nil {
		return false, err
	}
	return at.Dev != above.Dev, nil
}

// links makes what programs expect in /dev.
func links(prefix string) error {
	var errs []error
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(prefix, "dev", name)); err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
