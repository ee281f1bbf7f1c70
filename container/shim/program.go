package shim

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/sysprog"
)

// atCWD is AT_FDCWD as a system call argument.
const atCWD = ^uintptr(99)

// builder writes down what the container's first process does before it executes its command.
type builder struct {
	sysprog.Program
	cfg *proto.Config
}

// program is the whole of it. Once pivot_root has happened, "/" is the container's root, so no link in the image leads out of it; the
// node's file systems stay reachable through the working directory only, and go as soon as proc and sysfs, which a user namespace may
// only mount beside others of their kind, are mounted.
func program(cfg *proto.Config, t *trees, joins []int, sync, consoleNumber, consoleFD int) *sysprog.Program {
	b := &builder{cfg: cfg}
	b.enterGroups(joins)
	b.Call("make a cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	if cfg.UserNS {
		b.becomeRoot(sync)
	}
	b.enterRoot(t.root)
	b.kernelMounts(t.sys)
	b.Call("detach the node's file systems", unix.SYS_UMOUNT2, b.Str("."), unix.MNT_DETACH)
	b.Call("go to /", unix.SYS_CHDIR, b.Str("/"))
	b.ownMounts(t, consoleNumber)
	b.protect()
	for _, bind := range t.binds {
		b.bind(bind)
	}
	b.Call("set the host name", unix.SYS_SETHOSTNAME, b.Str(cfg.Hostname), uintptr(len(cfg.Hostname)))
	if cfg.Net {
		b.raiseLoopback()
	}
	b.terminal(consoleFD, consoleFD, consoleFD, true)
	b.limitFiles()
	b.Call("go to the working directory "+cfg.WorkDir, unix.SYS_CHDIR, b.Str(cfg.WorkDir))
	b.identity(cfg.User, capabilities(cfg))
	b.Call("execute "+cfg.Path, unix.SYS_EXECVE, b.Str(cfg.Path), b.Strings(cfg.Args), b.Strings(cfg.Env))
	return &b.Program
}

// enterGroups enters cgroups of version 1, clone having entered that of version 2, and gives up what protects the daemon and with it
// the shim from being killed for want of memory. /proc is still the node's.
func (b *builder) enterGroups(joins []int) {
	for _, fd := range joins {
		b.Call("enter a cgroup", unix.SYS_WRITE, uintptr(fd), b.Str("0"), 1)
	}
	fd := b.Call("open oom_score_adj", unix.SYS_OPENAT, atCWD, b.Str("/proc/self/oom_score_adj"), unix.O_WRONLY|unix.O_CLOEXEC, 0).Try().Skip(2)
	b.Call("set oom_score_adj", unix.SYS_WRITE, 0, b.Str("0"), 1).On(fd).Try()
	b.Call("close oom_score_adj", unix.SYS_CLOSE).On(fd)
}

// becomeRoot waits until the parent has written the maps of the user namespace.
func (b *builder) becomeRoot(sync int) {
	b.Call("wait for the user namespace's maps", unix.SYS_READ, uintptr(sync), b.Bytes(make([]byte, 8)), 1)
	b.Call("become group 0 of the user namespace", unix.SYS_SETRESGID, 0, 0, 0)
	b.Call("become user 0 of the user namespace", unix.SYS_SETRESUID, 0, 0, 0)
	b.Call("drop the node's groups", unix.SYS_SETGROUPS, 0, 0)
}

// stage is where the new root lies for a moment. Root of a user namespace may not search the directory that the root really lies in,
// and must not cover the node's /proc and /sys.
const stage = "/dev"

// enterRoot makes the cloned tree the root of the mount namespace.
func (b *builder) enterRoot(root int) {
	b.Call("make the mounts private", unix.SYS_MOUNT, 0, b.Str("/"), 0, unix.MS_REC|unix.MS_PRIVATE, 0)
	b.place("mount the root file system", uintptr(root), stage)
	b.Call("enter the root file system", unix.SYS_FCHDIR, uintptr(root))
	b.Call("make it the root (pivot_root)", unix.SYS_PIVOT_ROOT, b.Str("."), b.Str("."))
}

// place moves a detached mount to a path, whose last element may not be a link.
func (b *builder) place(what string, fd uintptr, path string) *sysprog.Step {
	return b.Call(what, unix.SYS_MOVE_MOUNT, fd, b.Str(""), atCWD, b.Str(path), unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// mkdir makes a mountpoint where the image has none.
func (b *builder) mkdir(path string) {
	b.Call("make the directory "+path+", which the image lacks", unix.SYS_MKDIRAT, atCWD, b.Str(path), 0o755).Allow(unix.EEXIST)
}

// mount mounts a file system that belongs to the namespaces of the one who makes it.
func (b *builder) mount(kind, path string, attrs uintptr) {
	what := "mount " + kind + " on " + path
	fs := b.Call(what, unix.SYS_FSOPEN, b.Str(kind), unix.FSOPEN_CLOEXEC)
	b.Call(what, unix.SYS_FSCONFIG, 0, unix.FSCONFIG_SET_STRING, b.Str("source"), b.Str(kind), 0).On(fs)
	b.Call(what, unix.SYS_FSCONFIG, 0, unix.FSCONFIG_CMD_CREATE, 0, 0, 0).On(fs)
	fd := b.Call(what, unix.SYS_FSMOUNT, 0, unix.FSMOUNT_CLOEXEC, attrs).On(fs)
	b.place(what, 0, path).On(fd)
}

const protectedAttrs = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NODEV

// kernelMounts shows the kernel's file systems: all of /sys but the container's own cgroups read-only, which tells udev to stay away.
func (b *builder) kernelMounts(sys int) {
	b.mkdir("/proc")
	b.mount("proc", "/proc", protectedAttrs)
	b.mkdir("/sys")
	if sys >= 0 {
		b.place("mount the node's sysfs on /sys", uintptr(sys), "/sys")
	} else {
		b.mount("sysfs", "/sys", protectedAttrs|unix.MOUNT_ATTR_RDONLY)
	}
	b.mount("cgroup2", "/sys/fs/cgroup", protectedAttrs)
}

// ownMounts places what the shim has prepared.
func (b *builder) ownMounts(t *trees, console int) {
	for _, m := range []struct {
		fd   int
		path string
	}{{t.dev, "/dev"}, {t.pts, "/dev/pts"}, {t.shm, "/dev/shm"}, {t.run, "/run"}, {t.tmp, "/tmp"}} {
		if m.fd != t.pts && m.fd != t.shm {
			b.mkdir(m.path)
		}
		b.place("mount "+m.path, uintptr(m.fd), m.path)
	}
	b.mount("mqueue", "/dev/mqueue", protectedAttrs)
	b.Call("mount /dev/console", unix.SYS_MOUNT, b.Str("/dev/pts/"+itoa(console)), b.Str("/dev/console"), 0, unix.MS_BIND, 0)
}

// Parts of /proc that concern the node and not the container, as systemd-nspawn has them.
var (
	readOnlyPaths = []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/acpi", "/proc/apm", "/proc/asound", "/proc/bus", "/proc/fs",
		"/proc/irq", "/proc/scsi"}
	hiddenPaths = []string{"/proc/kcore", "/proc/kallsyms", "/proc/keys", "/proc/timer_list", "/proc/kmsg"}
)

// protect makes parts of /proc read-only and hides others. What this kernel does not have needs neither.
func (b *builder) protect() {
	attr := b.Pointer(unsafe.Pointer(&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | protectedAttrs}))
	for _, path := range readOnlyPaths {
		what := "make " + path + " read-only"
		fd := b.Call(what, unix.SYS_OPEN_TREE, atCWD, b.Str(path), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).Allow(unix.ENOENT).Skip(2)
		b.Call(what, unix.SYS_MOUNT_SETATTR, 0, b.Str(""), unix.AT_EMPTY_PATH, attr, unsafe.Sizeof(unix.MountAttr{})).On(fd)
		b.place(what, 0, path).On(fd)
	}
	for _, path := range hiddenPaths {
		b.Call("hide "+path, unix.SYS_MOUNT, b.Str("/dev/null"), b.Str(path), 0, unix.MS_BIND, 0).Allow(unix.ENOENT)
	}
}

// bind places a bind, making its target and what leads there when the image lacks it.
func (b *builder) bind(t boundTree) {
	target := t.bind.Target
	for i := 1; i < len(target); i++ {
		if target[i] == '/' {
			b.mkdir(target[:i])
		}
	}
	if t.dir {
		b.mkdir(target)
	} else {
		b.Call("make the file "+target+", which the image lacks", unix.SYS_MKNODAT, atCWD, b.Str(target), unix.S_IFREG|0o644, 0).Allow(unix.EEXIST)
	}
	b.place("bind "+t.bind.Source+" to "+target, uintptr(t.fd), target)
}

// ifreq is struct ifreq with flags.
type ifreq struct {
	name  [unix.IFNAMSIZ]byte
	flags uint16
	_     [22]byte
}

func (b *builder) raiseLoopback() {
	req := &ifreq{flags: unix.IFF_UP}
	copy(req.name[:], "lo")
	fd := b.Call("raise the loopback device", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	b.Call("raise the loopback device", unix.SYS_IOCTL, 0, unix.SIOCSIFFLAGS, b.Pointer(unsafe.Pointer(req))).On(fd)
}
