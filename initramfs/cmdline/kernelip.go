package cmdline

import (
	"fmt"
	"net"
	"net/netip"
)

// kernelIP adds what ip= says, as the kernel reads it (Documentation/admin-guide/nfs/nfsroot.rst) and dracut does:
// ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:METHOD:DNS:DNS:NTP, ip=METHOD, ip=DEVICE:METHOD. It says also whether the network is
// to be left alone, by this one or, with off, by an earlier one.
func (o *Options) kernelIP(list []Link, off bool, value string) ([]Link, bool) {
	l, none, err := parseIP(value)
	switch {
	case err != nil:
		o.warn("ip=: " + err.Error() + ": ignored")
	case none:
		off = true
	default:
		list = append(list, l)
	}
	return list, off
}

func parseIP(value string) (l Link, off bool, err error) {
	f := ipFields(value)
	if len(f) <= 2 && (len(f) == 1 || !isAddr(f[0])) { // METHOD, DEVICE:METHOD; an address alone is neither
		method := f[len(f)-1]
		if len(f) == 2 {
			if err := l.name(f[0]); err != nil {
				return l, false, err
			}
		}
		if l.Method, off = ipMethod(method); l.Method == "" && !off {
			return l, false, fmt.Errorf("%.40q is none of dhcp, dhcp6, auto6, on, any, off", method)
		}
		return l, off, l.complete()
	}
	f = append(f, make([]string, 10)...)
	if f[5] != "" {
		if err := l.name(f[5]); err != nil {
			return l, false, err
		}
	}
	if IsHostname(f[4]) {
		l.Hostname = f[4]
	}
	l.Method, off = ipMethod(f[6])
	if f[0] != "" {
		off = false
		if l.Method, err = Static, l.ipAddress(f[0], f[3]); err != nil {
			return l, false, err
		}
	}
	for i, to := range map[int]*[]netip.Addr{2: &l.Gateways, 7: &l.DNS, 8: &l.DNS} {
		if f[i] == "" || f[i] == "0.0.0.0" {
			continue
		}
		a, err := parseAddr(f[i])
		if err != nil {
			return l, false, err
		}
		*to = append(*to, a)
	}
	if f[9] != "" {
		l.NTP = []string{f[9]}
	}
	return l, off, l.complete()
}

// ipFields takes the value apart at colons outside of brackets, which IPv6 addresses stand in.
func ipFields(value string) (fields []string) {
	depth, from := 0, 0
	for i, c := range value {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ':' && depth <= 0:
			fields, from = append(fields, value[from:i]), i+1
		}
	}
	return append(fields, value[from:])
}

func ipMethod(word string) (m Method, off bool) {
	switch word {
	case "dhcp", "bootp", "both", "rarp", "dhcp4":
		return DHCP, false
	case "on", "any", "", "default", "single-dhcp":
		return Auto, false
	case "dhcp6":
		return DHCP6, false
	case "auto6", "either6":
		return RA, false
	case "off", "none", "static":
		return "", true
	}
	return "", false
}

// ipAddress takes the address and the mask, which is dotted, or a number of bits, or left out as it was in the days of classes.
func (l *Link) ipAddress(address, mask string) error {
	a, err := parseAddr(address)
	if err != nil {
		return err
	}
	bits := 64
	switch m, maskErr := parseAddr(mask); {
	case mask != "" && maskErr != nil:
		if bits, err = parseNumber(mask, 1, a.BitLen()); err != nil {
			return fmt.Errorf("the mask: %w", err)
		}
	case mask != "":
		ones, size := net.IPMask(m.AsSlice()).Size()
		if size != a.BitLen() {
			return fmt.Errorf("%q is no mask", mask)
		}
		bits = ones
	case a.Is4():
		if m := net.IP(a.AsSlice()).DefaultMask(); m != nil {
			bits, _ = m.Size()
		} else {
			bits = 32
		}
	}
	l.Addresses = append(l.Addresses, netip.PrefixFrom(a, bits))
	return nil
}

func isAddr(v string) bool {
	_, err := parseAddr(v)
	return err == nil
}
