package shim

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
)

// nodes are the device nodes of every container.
var nodes = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// present are further nodes, made when the node of that name is there: what HPC containers mount images with.
var present = []string{"fuse"}

var devLinks = [][2]string{{"ptmx", "pts/ptmx"}, {"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}, {"core", "/proc/kcore"}}

// splitOptions cuts "a=b,c" into pairs.
func splitOptions(options string) [][2]string {
	var out [][2]string
	for _, o := range strings.Split(options, ",") {
		k, v, _ := strings.Cut(o, "=")
		out = append(out, [2]string{k, v})
	}
	return out
}

// furnishDev fills the container's /dev.
func furnishDev(dev int, base uint32) error {
	for _, n := range nodes {
		if err := makeNode(dev, n.name, unix.Mkdev(n.major, n.minor), base); err != nil {
			return err
		}
	}
	for _, name := range present {
		var st unix.Stat_t
		if unix.Stat("/dev/"+name, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
			continue
		}
		if err := makeNode(dev, name, st.Rdev, base); err != nil {
			return err
		}
	}
	for _, l := range devLinks {
		if err := unix.Symlinkat(l[1], dev, l[0]); err != nil {
			return fmt.Errorf("make /dev/%s: %w", l[0], err)
		}
	}
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(dev, dir, 0o755); err != nil {
			return fmt.Errorf("make /dev/%s: %w", dir, err)
		}
	}
	return makeFile(dev, "console", nil, 0o600) // the console is bound over it
}

func makeNode(dev int, name string, number uint64, base uint32) error {
	if err := unix.Mknodat(dev, name, unix.S_IFCHR|0o666, int(number)); err != nil {
		return fmt.Errorf("make /dev/%s: %w", name, err)
	}
	if err := unix.Fchmodat(dev, name, 0o666, 0); err != nil { // the umask has taken from it
		return fmt.Errorf("make /dev/%s: %w", name, err)
	}
	return chownAt(dev, name, base)
}

func chownAt(dir int, name string, base uint32) error {
	if base == 0 {
		return nil
	}
	if err := unix.Fchownat(dir, name, int(base), int(base), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("give %s to the container: %w", name, err)
	}
	return nil
}

func makeFile(dir int, name string, data []byte, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// furnishRun fills /run/host as systemd's container interface wants it, and gives the notify socket, which is made right there.
func furnishRun(run int, cfg *proto.Config) (*os.File, error) {
	if err := unix.Mkdirat(run, "host", 0o755); err != nil {
		return nil, fmt.Errorf("make /run/host: %w", err)
	}
	if err := makeFile(run, "host/container-manager", []byte("windlass\n"), 0o444); err != nil {
		return nil, err
	}
	if err := makeFile(run, "host/container-uuid", []byte(dashed(cfg.UUID)+"\n"), 0o444); err != nil {
		return nil, err
	}
	if !cfg.Systemd {
		return nil, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make the notify socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "notify")
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		f.Close()
		return nil, fmt.Errorf("make the notify socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(run) + "/host/notify"}); err != nil {
		f.Close()
		return nil, fmt.Errorf("bind the notify socket: %w", err)
	}
	if err := chownAt(run, "host/notify", cfg.IDBase); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// dashed writes a UUID in its usual form.
func dashed(u string) string {
	if len(u) != 32 {
		return u
	}
	return u[:8] + "-" + u[8:12] + "-" + u[12:16] + "-" + u[16:20] + "-" + u[20:]
}

// followNotify hears the first process say that it is ready, or going down. Others in the container can write to the socket too; the kernel
// says who did.
func (c *container) followNotify(first int) {
	raw, err := c.notify.SyscallConn()
	if err != nil {
		return
	}
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		var n, oobn int
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, _, rerr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
			return rerr != unix.EAGAIN && rerr != unix.EINTR
		})
		if err != nil || rerr != nil {
			return
		}
		if senderPID(oob[:oobn]) != first {
			continue
		}
		switch text := string(buf[:n]); {
		case hasLine(text, "STOPPING=1"):
			c.update(func(st *proto.Status) { st.Ready = false })
		case hasLine(text, "READY=1"):
			c.update(func(st *proto.Status) { st.Ready = true })
		}
	}
}

func senderPID(oob []byte) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	pid := 0
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			pid = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			for _, fd := range fds { // systemd may send a barrier; nobody here wants its files
				unix.Close(fd)
			}
		}
	}
	return pid
}

func hasLine(text, line string) bool {
	for _, l := range strings.Split(text, "\n") {
		if l == line {
			return true
		}
	}
	return false
}
