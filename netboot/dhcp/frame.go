package dhcp

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// frame makes an IPv4 packet with a UDP datagram from port 67.
func frame(from netip.Addr, to netip.AddrPort, payload []byte) []byte {
	p := make([]byte, 28, 28+len(payload))
	p = append(p, payload...)
	src, dst := from.As4(), to.Addr().As4()

	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[10:], checksum(p[:20], 0))

	udp := p[20:]
	binary.BigEndian.PutUint16(udp, ServerPort)
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	pseudo := sum(p[12:20], unix.IPPROTO_UDP+uint32(len(udp)))
	c := checksum(udp, pseudo)
	if c == 0 {
		c = 0xffff // 0 would mean that there is none
	}
	binary.BigEndian.PutUint16(udp[6:], c)
	return p
}

// sum adds the 16-bit words of p.
func sum(p []byte, start uint32) uint32 {
	for ; len(p) > 1; p = p[2:] {
		start += uint32(p[0])<<8 | uint32(p[1])
	}
	if len(p) == 1 {
		start += uint32(p[0]) << 8
	}
	return start
}

// checksum is that of RFC 1071.
func checksum(p []byte, start uint32) uint16 {
	s := sum(p, start)
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
