// Package mountinfo asks the kernel what is mounted where. A mount is known by its mount id, never by st_dev: a bind of a directory
// has the st_dev of its surroundings and is a mount all the same.
package mountinfo

import (
	"fmt"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Info is one line of /proc/self/mountinfo.
type Info = mountinfo.Info

// ID gives the mount id of what is at path, last link not followed.
func ID(path string) (uint64, error) {
	var st unix.Statx_t
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_DONT_SYNC
	if err := unix.Statx(unix.AT_FDCWD, path, flags, unix.STATX_MNT_ID, &st); err != nil {
		return 0, fmt.Errorf("statx %s: %w", path, err)
	}
	if st.Mask&unix.STATX_MNT_ID == 0 {
		return 0, fmt.Errorf("statx %s: the kernel gives no mount id; Linux 5.8 or newer is needed", path)
	}
	return st.Mnt_id, nil
}

// IsMountpoint reports whether something is mounted at path: its mount id differs from that of the directory that holds it.
func IsMountpoint(path string) (bool, error) {
	here, err := ID(path)
	if err != nil {
		return false, err
	}
	above, err := ID(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return false, err
	}
	return here != above, nil
}

// Below lists what is mounted at dir or below it, in the order of mounting.
func Below(dir string) ([]*Info, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(filepath.Clean(dir)))
	if err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	return infos, nil
}

// ByID finds a mount by its mount id; nil when there is none.
func ByID(id uint64) (*Info, error) {
	infos, err := mountinfo.GetMounts(func(i *Info) (skip, stop bool) { return uint64(i.ID) != id, uint64(i.ID) == id })
	if err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	if len(infos) == 0 {
		return nil, nil
	}
	return infos[0], nil
}
