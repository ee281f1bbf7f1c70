package devices

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Uevents gives the aliases of devices as the kernel tells of them, until ctx ends.
func Uevents(ctx context.Context) (<-chan string, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's events: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen to the kernel's events: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20) // else some are lost when there are many
	out := make(chan string)
	go func() {
		defer close(out)
		defer unix.Close(fd)
		buf := make([]byte, 16<<10)
		for ctx.Err() == nil {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 1000) // so that the end of ctx is seen
				continue
			}
			if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
				continue // not from the kernel
			}
			alias := parseUevent(buf[:n])
			if alias == "" {
				continue
			}
			select {
			case out <- alias:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

// parseUevent gives the alias of a device that was added: add@PATH, then KEY=VALUE, each closed by a zero.
func parseUevent(b []byte) (alias string) {
	fields := strings.Split(string(b), "\x00")
	if !strings.HasPrefix(fields[0], "add@") && !strings.HasPrefix(fields[0], "bind@") {
		return ""
	}
	for _, f := range fields[1:] {
		if v, ok := strings.CutPrefix(f, "MODALIAS="); ok {
			alias = strings.TrimSpace(v)
		}
	}
	return alias
}
