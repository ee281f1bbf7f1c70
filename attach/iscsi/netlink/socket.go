package netlink

import (
	"errors"
	"math/rand/v2"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket carries datagrams to the kernel and back. Its methods may be called from many goroutines.
type Socket interface {
	// Send sends one datagram.
	Send(b []byte) error
	// Receive waits for one datagram, puts it into b, and says whether it comes from the kernel. os.ErrClosed: the socket has been closed;
	// ENOBUFS: some have been lost. After other errors it may be called again.
	Receive(b []byte) (n int, fromKernel bool, err error)
	// Close closes the socket. It waits for sends that the kernel holds up.
	Close() error
}

// netlinkSocket is the Socket of a real kernel.
type netlinkSocket struct {
	file *os.File
	raw  syscall.RawConn
}

// openSocket gives a socket and its address.
func openSocket() (*netlinkSocket, uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ISCSI)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, 0, unsupported(err)
	}
	if err != nil {
		return nil, 0, os.NewSyscallError("open the iSCSI netlink socket", err)
	}
	file := os.NewFile(uintptr(fd), "iSCSI netlink socket")
	port, err := bind(fd)
	var raw syscall.RawConn
	if err == nil {
		raw, err = file.SyscallConn()
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, inBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, inBuffer) // less than asked for will do
	}
	return &netlinkSocket{file, raw}, port, nil
}

// bind gives the socket an address that it shares with no other, not even with one of a process before it: the kernel shows a session's
// creator by it.
func bind(fd int) (uint32, error) {
	for try := 0; ; try++ {
		port := minPort + rand.Uint32N(maxPort-minPort)
		err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (group - 1), Pid: port})
		if !errors.Is(err, unix.EADDRINUSE) || try == maxBinds {
			return port, os.NewSyscallError("bind the iSCSI netlink socket", err)
		}
	}
}

func (s *netlinkSocket) Close() error { return s.file.Close() }

func (s *netlinkSocket) Send(b []byte) error {
	var sent error
	err := s.raw.Control(func(fd uintptr) {
		sent = ignoringEINTR(func() error { return unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) })
	})
	return errors.Join(err, os.NewSyscallError("netlink", sent))
}

func (s *netlinkSocket) Receive(b []byte) (n int, fromKernel bool, err error) {
	var from unix.Sockaddr
	var got error
	err = s.raw.Read(func(fd uintptr) bool {
		n, from, got = unix.Recvfrom(int(fd), b, 0)
		return !errors.Is(got, unix.EAGAIN)
	})
	if err != nil {
		return 0, false, os.ErrClosed
	}
	sender, ok := from.(*unix.SockaddrNetlink)
	return n, ok && sender.Pid == 0, got
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
