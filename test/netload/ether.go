package netload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Ether is one packet socket through which many nodes speak DHCP, each with its own MAC. It may be used by several goroutines.
type Ether struct {
	f       *os.File
	index   int
	mu      sync.Mutex
	waiting map[dhcpv4.TransactionID]waiting
	done    chan struct{}
}

// waiting is for an offer, or for the answer to a request.
type waiting struct {
	c     chan *dhcpv4.DHCPv4
	offer bool
}

const ethHeader, ipHeader, udpHeader = 14, 20, 8

// OpenEther opens the device with this name.
func OpenEther(name string) (*Ether, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := toClients(fd, dev.Index); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("prepare a packet socket: %w", err)
	}
	e := &Ether{f: os.NewFile(uintptr(fd), "ether"), index: dev.Index, waiting: map[dhcpv4.TransactionID]waiting{}, done: make(chan struct{})}
	go e.read()
	return e, nil
}

// toClients lets in what is sent to DHCP clients alone.
func toClients(fd, index int) error {
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 5},
		bpf.LoadAbsolute{Off: ethHeader + 9, Size: 1}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: ethHeader + ipHeader + 2, Size: 2}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 68, SkipTrue: 1},
		bpf.RetConstant{Val: 4096}, bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	prog := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		prog[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	return errors.Join(unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_IP >> 8, Ifindex: index}))
}

// Close ends it.
func (e *Ether) Close() error {
	err := e.f.Close()
	<-e.done
	return err
}

func (e *Ether) read() {
	defer close(e.done)
	buf := make([]byte, 4096)
	for {
		n, err := e.f.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n < ethHeader+ipHeader+udpHeader {
			continue
		}
		m, err := dhcpv4.FromBytes(buf[ethHeader+ipHeader+udpHeader : n])
		if err != nil || m.OpCode != dhcpv4.OpcodeBootReply {
			continue
		}
		e.mu.Lock()
		w := e.waiting[m.TransactionID]
		e.mu.Unlock()
		if (m.MessageType() == dhcpv4.MessageTypeOffer) != w.offer {
			continue // an answer to what was sent again, which has been answered
		}
		select {
		case w.c <- m: // blocks for nil, which the default is for
		default:
		}
	}
}

// Exchange broadcasts a message and waits for its answer; without one it is sent again after each of the waits but the last, which ends it.
// sent is how often it was sent.
func (e *Ether) Exchange(ctx context.Context, m *dhcpv4.DHCPv4, waits []time.Duration) (answer *dhcpv4.DHCPv4, sent int, err error) {
	c := make(chan *dhcpv4.DHCPv4, 1)
	e.mu.Lock()
	e.waiting[m.TransactionID] = waiting{c, m.MessageType() == dhcpv4.MessageTypeDiscover}
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.waiting, m.TransactionID)
		e.mu.Unlock()
	}()
	packet := frame(m.ClientHWAddr, m.ToBytes())
	for _, wait := range waits {
		sent++
		if err := e.send(packet); err != nil {
			return nil, sent, fmt.Errorf("send to the wire: %w", err)
		}
		timer := time.NewTimer(wait)
		select {
		case answer := <-c:
			timer.Stop()
			return answer, sent, nil
		case <-ctx.Done():
			timer.Stop()
			return nil, sent, ctx.Err()
		case <-timer.C:
		}
	}
	return nil, sent, fmt.Errorf("%s: no answer to %s, sent %d times", m.ClientHWAddr, m.MessageType(), sent)
}

func (e *Ether) send(packet []byte) error {
	for {
		err := e.trySend(packet)
		if !errors.Is(err, unix.ENOBUFS) {
			return err
		}
		time.Sleep(time.Millisecond) // the device's queue is full: there is nothing to wait on
	}
}

func (e *Ether) trySend(packet []byte) error {
	conn, err := e.f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), packet, 0, &unix.SockaddrLinklayer{Ifindex: e.index})
		return !errors.Is(sent, unix.EAGAIN)
	}); err != nil {
		return err
	}
	return sent
}

// frame is a broadcast of a node that has no address, from port 68 to 67, without a checksum of UDP.
func frame(mac net.HardwareAddr, payload []byte) []byte {
	p := make([]byte, ethHeader+ipHeader+udpHeader, ethHeader+ipHeader+udpHeader+len(payload))
	copy(p, []byte{255, 255, 255, 255, 255, 255})
	copy(p[6:], mac)
	binary.BigEndian.PutUint16(p[12:], unix.ETH_P_IP)
	ip := p[ethHeader:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(ipHeader+udpHeader+len(payload)))
	copy(ip[16:], []byte{255, 255, 255, 255})
	var sum uint32
	for i := 0; i < ipHeader; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	udp := ip[ipHeader:]
	binary.BigEndian.PutUint16(udp, 68)
	binary.BigEndian.PutUint16(udp[2:], 67)
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+len(payload)))
	return append(p, payload...)
}

// Kind is a program that asks for an address.
type Kind int

// The kinds, in the order in which they run on a node.
const (
	Firmware Kind = iota
	IPXE
	System
)

// maxRefused is how often a node that is refused what it was offered begins anew.
const maxRefused = 20

// Obtain has a node go through DISCOVER, OFFER, REQUEST and ACK as a program does, and gives the last answer. sent is how many
// messages that took, 2 at best.
func (e *Ether) Obtain(ctx context.Context, mac net.HardwareAddr, k Kind, waits []time.Duration) (ack *dhcpv4.DHCPv4, sent int, err error) {
	for range maxRefused {
		var n int
		ack, n, err = e.obtain(ctx, mac, manner(k), waits)
		sent += n
		if err != nil || ack.MessageType() == dhcpv4.MessageTypeAck {
			return ack, sent, err
		}
	}
	return nil, sent, fmt.Errorf("%s: each address that it is offered is refused to it then", mac)
}

func (e *Ether) obtain(ctx context.Context, mac net.HardwareAddr, mods []dhcpv4.Modifier, waits []time.Duration) (ack *dhcpv4.DHCPv4, sent int, err error) {
	d, err := dhcpv4.NewDiscovery(mac, mods...)
	if err != nil {
		return nil, 0, err
	}
	offer, n, err := e.Exchange(ctx, d, waits)
	if err != nil {
		return nil, n, err
	}
	r, err := dhcpv4.NewRequestFromOffer(offer, mods...)
	if err != nil {
		return nil, n, err
	}
	ack, more, err := e.Exchange(ctx, r, waits)
	return ack, n + more, err
}

// manner is what tells the programs apart.
func manner(k Kind) []dhcpv4.Modifier {
	if k == System {
		return nil
	}
	mods := []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000:UNDI:002001")), dhcpv4.WithOption(dhcpv4.OptClientArch(0)),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1472))}
	if k == IPXE {
		return append(mods, dhcpv4.WithOption(dhcpv4.OptUserClass("iPXE")))
	}
	return append(mods, dhcpv4.WithBroadcast(true))
}

// Address is the one that an answer gives.
func Address(m *dhcpv4.DHCPv4) netip.Addr {
	a, _ := netip.AddrFromSlice(m.YourIPAddr.To4())
	return a
}
