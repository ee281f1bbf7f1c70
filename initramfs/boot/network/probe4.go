package network

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"golang.org/x/sys/unix"
)

const (
	// firstAnswer is how long an answer is waited for before an address is used: who is there answers within a few of them.
	firstAnswer = 50 * time.Millisecond
	// probes are sent so many times: the first may be lost.
	probes = 3
	// maxDeclined is how many addresses are declined, one after the other. Some switches answer for every one.
	maxDeclined = 3

	frameSize = 42 // of an Ethernet frame with ARP for IPv4
)

// others asks who else has an address (RFC 5227, 2.1.1), and gives the first who says so within Timing.Probe. It gives nil when it cannot be
// asked, or need not: the device has the address already. The boot does not wait for it.
func (d *device) others(ctx context.Context, ip netip.Addr) <-chan net.HardwareAddr {
	if had, ok := d.held(); len(d.mac) != 6 || ok && had == ip {
		return nil
	}
	s, err := packets(d.index)
	if err != nil {
		d.say("whether somebody else has %s is not known: %v", ip, err)
		return nil
	}
	found := make(chan net.HardwareAddr, 1)
	wait := d.net.cfg.Timing.Probe
	ctx, cancel := context.WithTimeout(ctx, wait)
	stop := context.AfterFunc(ctx, func() { _ = s.SetReadDeadline(time.Now()) })
	go func() {
		for range probes {
			_, _ = s.Write(arpProbe(d.mac, ip)) // who is there may answer the next one
			if !sleep(ctx, wait/probes) {
				return
			}
		}
	}()
	go func() {
		defer s.Close()
		defer stop()
		defer cancel()
		b := make([]byte, 1500)
		for {
			n, err := s.Read(b)
			if err != nil {
				return
			}
			if who := arpOwner(b[:n], ip); who != nil && !own(who) {
				found <- who
				return
			}
		}
	}()
	return found
}

// packets opens a socket for the ARP frames of a device.
func packets(index int) (*os.File, error) {
	proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0) // hears nothing until it is bound
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "arp"), nil
}

// arpProbe asks everybody for the owner of an address, without saying that it is ours.
func arpProbe(mac net.HardwareAddr, ip netip.Addr) []byte {
	b := append(bytes.Repeat([]byte{0xff}, 6), mac...)
	b = append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(b, mac...)
	b = append(b, make([]byte, 4+6)...)
	return append(b, ip.AsSlice()...)
}

// arpOwner gives who says in a frame that an address is his; nil when nobody does. Who only asks for it is none: some switches do, to learn
// where nodes are.
func arpOwner(b []byte, ip netip.Addr) net.HardwareAddr {
	if len(b) < frameSize || !bytes.Equal(b[12:20], []byte{8, 6, 0, 1, 8, 0, 6, 4}) || !bytes.Equal(b[28:32], ip.AsSlice()) {
		return nil
	}
	return slices.Clone(net.HardwareAddr(b[22:28]))
}

// own says whether a device of this node has the address: the kernel answers by each for all of them.
func own(mac net.HardwareAddr) bool {
	list, err := net.Interfaces()
	return err == nil && slices.ContainsFunc(list, func(i net.Interface) bool { return bytes.Equal(i.HardwareAddr, mac) })
}

// decline tells the server that somebody else has its address (RFC 2131, 4.4.4).
func (d *device) decline(p *dhcpv4.DHCPv4, who net.HardwareAddr) error {
	m, err := dhcpv4.New(dhcpv4.WithHwAddr(d.mac), dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(p.YourIPAddr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(p.ServerIdentifier())),
		dhcpv4.WithOption(dhcpv4.OptMessage("used by "+who.String())))
	if err != nil {
		return err
	}
	conn, err := nclient4.NewRawUDPConn(d.called(), nclient4.ClientPort)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: nclient4.ServerPort})
	return err
}

// called gives the name of the device as it is now: another program may have given it one.
func (d *device) called() string {
	if i, err := net.InterfaceByIndex(d.index); err == nil {
		return i.Name
	}
	return d.name
}
