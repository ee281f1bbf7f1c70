package lease

import (
	"encoding/binary"
	"net/netip"
)

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

func (r Range) size() int { return int(number(r.Last)) - int(number(r.First)) + 1 }

func (p Pool) size() int {
	total := 0
	for _, r := range p.Ranges {
		total += r.size()
	}
	return total
}

// at gives the i-th address, from 0.
func (p Pool) at(i int) netip.Addr {
	for _, r := range p.Ranges {
		if i < r.size() {
			return address(number(r.First) + uint32(i))
		}
		i -= r.size()
	}
	return netip.Addr{}
}

func (p Pool) contains(ip netip.Addr) bool {
	for _, r := range p.Ranges {
		if ip.Is4() && !ip.Less(r.First) && !r.Last.Less(ip) {
			return true
		}
	}
	return false
}
