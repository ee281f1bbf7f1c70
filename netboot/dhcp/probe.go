package dhcp

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

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// probeTime is how long an offer waits for who uses its address. On a wire an answer comes within a millisecond or two.
	probeTime = 25 * time.Millisecond
	// lateTime is how long after that an answer still counts, before the node has taken the address.
	lateTime = 5 * time.Second
)

// Prober asks the wire who uses an address. What it is told after it has answered goes to late.
type Prober interface {
	Probe(ctx context.Context, ip netip.Addr, late func(net.HardwareAddr)) (net.HardwareAddr, bool)
}

// arp is a packet socket that asks by ARP, as RFC 5227 has it done: without an address of its own, so that nobody learns one.
type arp struct {
	f       *os.File
	index   int
	mu      sync.Mutex
	waiting map[netip.Addr]*asking
}

type asking struct {
	told chan net.HardwareAddr // one fits in
	late func(net.HardwareAddr)
	over bool // nobody waits on told any more; guarded by arp.mu
}

const arpLength = 28

// openARP opens one on an Ethernet interface; nil on another.
func openARP(index int) (*arp, error) {
	dev, err := net.InterfaceByIndex(index)
	if err != nil {
		return nil, err
	}
	if len(dev.HardwareAddr) != 6 {
		return nil, nil
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	err = attach(fd, []bpf.Instruction{ // answers alone: operation 2
		bpf.LoadAbsolute{Off: 6, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 2, SkipTrue: 1}, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 64},
	})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_ARP), Ifindex: index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("prepare a packet socket: %w", err)
	}
	return &arp{f: os.NewFile(uintptr(fd), "arp"), index: index, waiting: map[netip.Addr]*asking{}}, nil
}

func (a *arp) close() error { return a.f.Close() }

// read hears answers until the socket fails.
func (a *arp) read() error {
	buf := make([]byte, 64)
	for {
		n, err := a.f.Read(buf)
		if err != nil {
			if transient(err) {
				continue
			}
			return err
		}
		if ip, hw, ok := parseARP(buf[:n]); ok {
			a.heard(ip, hw)
		}
	}
}

// parseARP says who has which address.
func parseARP(p []byte) (netip.Addr, net.HardwareAddr, bool) {
	if len(p) < arpLength || binary.BigEndian.Uint32(p) != 1<<16|unix.ETH_P_IP || p[4] != 6 || p[5] != 4 || binary.BigEndian.Uint16(p[6:]) != 2 {
		return netip.Addr{}, nil, false
	}
	return netip.AddrFrom4([4]byte(p[14:18])), append(net.HardwareAddr(nil), p[8:14]...), true
}

func (a *arp) heard(ip netip.Addr, hw net.HardwareAddr) {
	a.mu.Lock()
	w := a.waiting[ip]
	late := w != nil && w.over
	if late {
		delete(a.waiting, ip)
	}
	a.mu.Unlock()
	switch {
	case w == nil:
	case late:
		w.late(hw)
	default:
		select {
		case w.told <- hw:
		default: // told already
		}
	}
}

// Probe implements Prober. Two nodes are never offered one address, so there is one question for an address at a time.
func (a *arp) Probe(ctx context.Context, ip netip.Addr, late func(net.HardwareAddr)) (net.HardwareAddr, bool) {
	w := &asking{told: make(chan net.HardwareAddr, 1), late: late}
	a.mu.Lock()
	a.waiting[ip] = w
	a.mu.Unlock()
	if err := a.ask(ip); err != nil {
		a.forget(ip, w)
		return nil, false // a check that cannot be made keeps nobody from booting
	}
	timer := time.NewTimer(probeTime)
	defer timer.Stop()
	select {
	case hw := <-w.told:
		a.forget(ip, w)
		return hw, true
	case <-timer.C:
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case hw := <-w.told: // just now
		delete(a.waiting, ip)
		return hw, true
	default:
	}
	w.over = true
	time.AfterFunc(lateTime, func() { a.forget(ip, w) })
	return nil, false
}

func (a *arp) forget(ip netip.Addr, w *asking) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting[ip] == w {
		delete(a.waiting, ip)
	}
}

func (a *arp) ask(ip netip.Addr) error {
	conn, err := a.f.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Write(func(fd uintptr) bool {
		sent = question(int(fd), a.index, ip)
		return !errors.Is(sent, unix.EAGAIN)
	}); err != nil {
		return err
	}
	return sent
}

// question broadcasts one. The interface's own address is asked for each time: that of a bridge changes with what is plugged in.
func question(fd, index int, ip netip.Addr) error {
	own, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	dev, ok := own.(*unix.SockaddrLinklayer)
	if !ok {
		return fmt.Errorf("a packet socket has no interface")
	}
	p := make([]byte, arpLength)
	binary.BigEndian.PutUint32(p, 1<<16|unix.ETH_P_IP)
	p[4], p[5], p[7] = 6, 4, 1
	copy(p[8:14], dev.Addr[:])
	target := ip.As4()
	copy(p[24:], target[:])
	return unix.Sendto(fd, p, 0, &unix.SockaddrLinklayer{Protocol: swap(unix.ETH_P_ARP), Ifindex: index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}})
}
