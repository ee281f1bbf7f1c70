package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// queue is how many bytes may wait in a socket: the requests of some thousand nodes that are switched on at once. The kernel counts a small
// packet as 768 bytes or more.
const queue = 8 << 20

// openUDP listens on a port of one interface. Another server on this machine may do so on the same port: both hear what is broadcast.
func openUDP(ctx context.Context, wire string, port int) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		control := raw.Control(func(fd uintptr) {
			err = errors.Join(
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
				unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, wire))
		})
		return errors.Join(control, err)
	}}
	conn, err := lc.ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", port))
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on %s: %w", wire, err)
	}
	udp := conn.(*net.UDPConn)
	if err := growQueue(udp); err != nil {
		udp.Close()
		return nil, fmt.Errorf("listen for DHCP on %s: %w", wire, err)
	}
	return udp, nil
}

// growQueue does so beyond what everybody may; without the right to, as far as that goes.
func growQueue(conn syscall.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	control := raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queue); errors.Is(err, unix.EPERM) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, queue)
		}
	})
	return errors.Join(control, err)
}

// raw is a packet socket on one interface. It sends to nodes that have no address yet, and hears what other servers send to them.
type raw struct {
	f     *os.File
	index int
}

func openRaw(index int) (*raw, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := prepareRaw(fd, index); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &raw{os.NewFile(uintptr(fd), "packet"), index}, nil
}

// prepareRaw lets only what is sent to nodes in, before anything can come.
func prepareRaw(fd, index int) error {
	if err := attach(fd, toNodes()); err != nil {
		return err
	}
	at := &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_IP), Ifindex: index}
	if err := unix.Bind(fd, at); err != nil {
		return fmt.Errorf("bind a packet socket: %w", err)
	}
	return nil
}

// attach has a socket hear what a filter lets in.
func attach(fd int, instructions []bpf.Instruction) error {
	filter, err := bpf.Assemble(instructions)
	if err != nil {
		return fmt.Errorf("filter packets: %w", err)
	}
	prog := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		prog[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}); err != nil {
		return fmt.Errorf("filter packets: %w", err)
	}
	return nil
}

// toNodes is a filter for IPv4 packets to UDP port 68 that are no later fragments.
func toNodes() []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: 6, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff, SkipTrue: 3},
		bpf.LoadMemShift{Off: 0},
		bpf.LoadIndirect{Off: 2, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: ClientPort, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 4096},
	}
}

// swap puts a number into the order of the network.
func swap(n uint16) uint16 { return n<<8 | n>>8 }

// read gives the payload of the next packet to a node; nil when it was cut short.
func (r *raw) read(buf []byte) ([]byte, error) {
	n, err := r.f.Read(buf)
	if err != nil {
		return nil, err
	}
	p := buf[:n]
	if n < 20 {
		return nil, nil
	}
	head := int(p[0]&15) * 4
	if head < 20 || n < head+8 {
		return nil, nil
	}
	return p[head+8:], nil
}

// send sends a payload from port 67 of the server to a node, by its address on the wire.
func (r *raw) send(from netip.Addr, to netip.AddrPort, hw net.HardwareAddr, payload []byte) error {
	packet := frame(from, to, payload)
	at := &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_IP), Ifindex: r.index, Halen: uint8(len(hw))}
	copy(at.Addr[:], hw)
	conn, err := r.f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), packet, 0, at)
		return !errors.Is(sent, unix.EAGAIN)
	}); err != nil {
		return err
	}
	return sent
}

func (r *raw) close() error { return r.f.Close() }

// isRefused reports whether the error is what an ICMP message said of an earlier datagram.
func isRefused(err error) bool {
	for _, e := range []unix.Errno{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
