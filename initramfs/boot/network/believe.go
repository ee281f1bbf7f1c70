package network

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// How much of what comes over the wire is of use. One packet can name thousands of domains.
const (
	maxServers = 3   // a resolver asks no more name servers (resolv.conf(5)); as many gateways and time servers of one lease
	maxDomains = 6   // that a resolver goes through, as glibc did before 2.26
	maxSearch  = 256 // characters of all domains together, as well
	maxTime    = 16  // time servers of all devices
)

// usable says whether an address that somebody sent can be that of another node.
func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6() && a.Zone() == "" &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// addresses takes no more than are of use.
func addresses(ips []net.IP) (list []netip.Addr) {
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			list = append(list, a)
		}
	}
	return servers(list)
}

// servers takes of addresses no more than are of use, in their order.
func servers(all []netip.Addr) (list []netip.Addr) {
	for _, a := range all {
		if usable(a) && !slices.Contains(list, a) && len(list) < maxServers {
			list = append(list, a)
		}
	}
	return list
}

// onLink names the device with addresses that count on its link alone: nobody could reach them without (RFC 4007, 11).
func onLink(list []netip.Addr, device string) []netip.Addr {
	list = slices.Clone(list)
	for i, a := range list {
		if a.Is6() && a.IsLinkLocalUnicast() {
			list[i] = a.WithZone(device)
		}
	}
	return list
}

// domain says whether a text that somebody sent can stand in resolv.conf.
func domain(w string) bool {
	return w != "" && len(w) < 254 && !strings.ContainsFunc(w, func(c rune) bool {
		return c != '-' && c != '.' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}

// addDomain adds a domain to those that are searched, when it is one, is new, and fits.
func addDomain(list []string, w string) []string {
	if !domain(w) || slices.Contains(list, w) || len(list) == maxDomains || len(strings.Join(list, " "))+1+len(w) > maxSearch {
		return list
	}
	return append(list, w)
}
