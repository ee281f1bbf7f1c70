package fsmount

import "golang.org/x/sys/unix"

// AttrChange is what an option of mount(8) does to MOUNT_ATTR_* bits: Clear is taken away, then Set is added.
type AttrChange struct{ Clear, Set uint64 }

// AttrChanges gives the options that are the kernel's own, whatever the file system, such as noatime.
func AttrChanges() map[string]AttrChange {
	const atime = unix.MOUNT_ATTR__ATIME
	return map[string]AttrChange{
		"nosuid": {0, unix.MOUNT_ATTR_NOSUID}, "suid": {unix.MOUNT_ATTR_NOSUID, 0},
		"nodev": {0, unix.MOUNT_ATTR_NODEV}, "dev": {unix.MOUNT_ATTR_NODEV, 0},
		"noexec": {0, unix.MOUNT_ATTR_NOEXEC}, "exec": {unix.MOUNT_ATTR_NOEXEC, 0},
		"nosymfollow": {0, unix.MOUNT_ATTR_NOSYMFOLLOW}, "symfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, 0},
		"nodiratime": {0, unix.MOUNT_ATTR_NODIRATIME}, "diratime": {unix.MOUNT_ATTR_NODIRATIME, 0},
		"noatime": {atime, unix.MOUNT_ATTR_NOATIME}, "strictatime": {atime, unix.MOUNT_ATTR_STRICTATIME},
		"relatime": {atime, 0}, "atime": {atime, 0}, "norelatime": {0, 0}, "nostrictatime": {atime, 0},
	}
}
