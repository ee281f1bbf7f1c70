package act

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MaxRead is the most bytes of a file that fit into an Answer.
const MaxRead = 65 << 10

// File is what was found out of a file, and its beginning.
type File struct {
	Mode, UID uint32 // as stat(2) gives them
	Generated bool   // it is none that was written: the kernel makes up what is in it when it is read
	Data      []byte // of a regular file that is not Generated: so many bytes at most as were asked for
}

// ReadFile opens a file, without following a link at the end of path, and reads max bytes of it at most. The error says which call failed.
func ReadFile(path string, max int) (File, error) {
	// O_NONBLOCK: a fifo without a writer would block the open. O_NOFOLLOW: a link may be somebody else's to change.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return File{}, os.NewSyscallError("open", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	// What is open is looked at: a name could be made to mean another file in between.
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return File{}, os.NewSyscallError("statfs", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return File{}, os.NewSyscallError("stat", err)
	}
	file := File{Mode: st.Mode, UID: st.Uid, Generated: generated(fs.Type)}
	// Reading is more than looking elsewhere: /proc/kmsg gives what it gives but once.
	if file.Generated || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return file, nil
	}
	if file.Data, err = io.ReadAll(io.LimitReader(f, int64(min(max, MaxRead)))); err != nil {
		return File{}, os.NewSyscallError("read", err)
	}
	return file, nil
}

// generated says whether the files of a file system are no files but windows to the kernel.
func generated(fsType int64) bool {
	switch uint32(fsType) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.CGROUP_SUPER_MAGIC,
		unix.CGROUP2_SUPER_MAGIC, unix.BPF_FS_MAGIC, unix.EFIVARFS_MAGIC, unix.SELINUX_MAGIC, unix.SMACK_MAGIC, unix.PSTOREFS_MAGIC,
		unix.NSFS_MAGIC, unix.RDTGROUP_SUPER_MAGIC, unix.BINFMTFS_MAGIC, configfsMagic:
		return true
	}
	return false
}

// configfsMagic is CONFIGFS_MAGIC of fs/configfs/mount.c, which no header of user space has.
const configfsMagic = 0x62656570

func (o Order) read() Answer {
	f, err := ReadFile(o.Path, o.Max)
	if err != nil {
		call := ""
		if e, ok := err.(*os.SyscallError); ok {
			call = e.Syscall
		}
		return failed(call, err)
	}
	return Answer{File: &f}
}
