package login

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is iSCSI's.
const DefaultPort = 3260

// Portal is where a target can be reached.
type Portal struct {
	Host string // a name or an address; IPv6 without brackets
	Port int
	Tag  int // portal group tag, 0 when it is not known
}

// ParsePortal reads a TargetAddress: HOST[:PORT][,TAG], where an IPv6 address stands in brackets.
func ParsePortal(s string) (Portal, error) {
	address, tag, tagged := strings.Cut(s, ",")
	p := Portal{Port: DefaultPort}
	if tagged {
		n, err := strconv.ParseUint(tag, 10, 16)
		if err != nil {
			return Portal{}, fmt.Errorf("%.300q has no portal group tag behind its comma", s)
		}
		p.Tag = int(n)
	}
	p.Host = address
	if strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]") {
		p.Host = address[1 : len(address)-1]
	} else if host, port, err := net.SplitHostPort(address); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Portal{}, fmt.Errorf("%.300q has no port behind its colon", s)
		}
		p.Host, p.Port = host, int(n)
	}
	if err := CheckHost(p.Host); err != nil {
		return Portal{}, err
	}
	return p, nil
}

// CheckHost says whether host can be the name or address of a host. An IPv6 address stands without brackets.
func CheckHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if host == "" || len(host) > 253 || strings.HasPrefix(host, "-") {
		return fmt.Errorf("%.300q is no name or address of a host", host)
	}
	for _, r := range host {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_') {
			return fmt.Errorf("%.300q is no name or address of a host", host)
		}
	}
	return nil
}

// Address is what can be dialled, with brackets round an IPv6 address.
func (p Portal) Address() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// String is HOST:PORT,TAG, without the tag where it is not known.
func (p Portal) String() string {
	if p.Tag == 0 {
		return p.Address()
	}
	return p.Address() + "," + strconv.Itoa(p.Tag)
}
