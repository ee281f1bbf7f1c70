package shim

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
)

func itoa(n int) string { return strconv.Itoa(n) }

// kept are the capabilities of a container: those of systemd-nspawn but CAP_MKNOD, since nothing else keeps a container from making
// itself a node for the disk that it came from.
var kept = []int{unix.CAP_AUDIT_CONTROL, unix.CAP_AUDIT_WRITE, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH,
	unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_IPC_OWNER, unix.CAP_KILL, unix.CAP_LEASE, unix.CAP_LINUX_IMMUTABLE,
	unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_BROADCAST, unix.CAP_NET_RAW, unix.CAP_SETFCAP, unix.CAP_SETGID, unix.CAP_SETPCAP,
	unix.CAP_SETUID, unix.CAP_SYS_ADMIN, unix.CAP_SYS_BOOT, unix.CAP_SYS_CHROOT, unix.CAP_SYS_NICE, unix.CAP_SYS_PTRACE,
	unix.CAP_SYS_RESOURCE, unix.CAP_SYS_TTY_CONFIG}

// capabilities is the set that a container's processes get: never more than the shim has.
func capabilities(cfg *proto.Config) uint64 {
	var set uint64
	for _, c := range kept {
		set |= 1 << c
	}
	if cfg.Net {
		set |= 1 << unix.CAP_NET_ADMIN
	}
	return set & ownCapabilities()
}

func ownCapabilities() uint64 {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32
}

// identity drops what the process may not keep and becomes the user. The order matters: each step needs what the next one drops.
func (b *builder) identity(who proto.Identity, caps uint64) {
	b.Call("join a new session keyring", unix.SYS_KEYCTL, unix.KEYCTL_JOIN_SESSION_KEYRING, 0).Try()
	b.Call("set the umask", unix.SYS_UMASK, 0o022)
	for c, last := uintptr(0), lastCapability(); c <= last; c++ {
		if caps&(1<<c) == 0 {
			b.Call("drop capability "+itoa(int(c)), unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		}
	}
	groups := append([]uint32{}, who.Groups...)
	b.Call("set the groups", unix.SYS_SETGROUPS, uintptr(len(groups)), b.Pointer(unsafe.Pointer(unsafe.SliceData(append(groups, 0)))))
	b.Call("become group "+itoa(int(who.GID)), unix.SYS_SETRESGID, uintptr(who.GID), uintptr(who.GID), uintptr(who.GID))
	b.Call("become user "+itoa(int(who.UID)), unix.SYS_SETRESUID, uintptr(who.UID), uintptr(who.UID), uintptr(who.UID))
	if who.UID == 0 { // another user has lost all of them with setresuid
		head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data := &[2]unix.CapUserData{{Effective: uint32(caps), Permitted: uint32(caps)}, {Effective: uint32(caps >> 32), Permitted: uint32(caps >> 32)}}
		b.Call("set the capabilities", unix.SYS_CAPSET, b.Pointer(unsafe.Pointer(head)), b.Pointer(unsafe.Pointer(data)))
	}
	b.defaultSignals()
}

// lastCapability is the highest that the kernel knows.
func lastCapability() uintptr {
	for c := uintptr(unix.CAP_LAST_CAP); c < 63; c++ {
		if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, c+1, 0); errno != 0 {
			return c
		}
	}
	return 63
}

// defaultSignals undoes what the shim or its parents ignore and unblocks everything. The handlers of the Go runtime must be gone
// before that: they would run on memory that is not the child's.
func (b *builder) defaultSignals() {
	action := b.Bytes(make([]byte, 64)) // SIG_DFL, no flags; larger than any struct sigaction of the kernel
	for n := uintptr(1); n <= 64; n++ {
		if n != uintptr(unix.SIGKILL) && n != uintptr(unix.SIGSTOP) {
			b.Call("reset signal "+itoa(int(n)), unix.SYS_RT_SIGACTION, n, action, 0, 8)
		}
	}
	b.Call("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, b.Bytes(make([]byte, 8)), 0, 8)
}

// terminal makes the files 0 to 2, of a session of its own, and lets all others close at execve.
func (b *builder) terminal(in, out, err int, controlling bool) {
	b.Call("make a session", unix.SYS_SETSID)
	if controlling {
		b.Call("take the terminal", unix.SYS_IOCTL, uintptr(in), unix.TIOCSCTTY, 1)
	}
	for to, from := range []int{in, out, err} {
		b.Call("set up file "+itoa(to), unix.SYS_DUP3, uintptr(from), uintptr(to), 0)
	}
	b.Call("close the other files", unix.SYS_CLOSE_RANGE, 3, uintptr(^uint32(0)), unix.CLOSE_RANGE_CLOEXEC)
}

// Limits of open files as systemd gives them; the Go runtime raises the soft one for itself.
const (
	softFiles = 1024
	hardFiles = 524288
)

func (b *builder) limitFiles() {
	var own unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &own) != nil {
		return
	}
	hard := min(own.Max, hardFiles)
	lim := &unix.Rlimit{Cur: min(softFiles, hard), Max: hard}
	b.Call("limit open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, b.Pointer(unsafe.Pointer(lim)), 0)
}
