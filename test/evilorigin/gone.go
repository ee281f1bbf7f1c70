package evilorigin

import (
	"net"

	"golang.org/x/sys/unix"
)

// tcpGone says whether the peer of a TCP connection has closed it.
func tcpGone(c net.Conn) bool {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	gone := true
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		gone = err != nil || info.State != 1 // ESTABLISHED
	})
	return gone
}
