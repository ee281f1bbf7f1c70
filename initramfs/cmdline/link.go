package cmdline

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Method is how a device of the network gets its address.
type Method string

// The methods.
const (
	Auto   Method = "auto"   // DHCPv4, and what IPv6 routers announce, whichever comes
	DHCP   Method = "dhcp"   // DHCPv4
	DHCP6  Method = "dhcp6"  // DHCPv6, with the routers that announce themselves
	RA     Method = "ra"     // what IPv6 routers announce alone
	Static Method = "static" // as the command line says
	None   Method = "none"   // the link is up and has no address
)

// Link is one device of the network.
type Link struct {
	Device    string           // name; "" with MAC nil is every device with a cable
	MAC       net.HardwareAddr // instead of the name
	Method    Method
	Addresses []netip.Prefix
	Gateways  []netip.Addr
	Routes    []Route
	DNS       []netip.Addr
	Search    []string
	NTP       []string
	Hostname  string
	MTU       int // 0: as it is

	Parent   string // of a VLAN
	VLAN     int
	Bond     []string // devices of a bond, by name or MAC
	BondMode string
	Miimon   int // of a bond, in milliseconds; 0: 100
}

// Route is a route beside the default one.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// BondModes are the modes of a bond as the kernel has them.
func BondModes() []string {
	return []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}
}

func methods() []string {
	return []string{string(Auto), string(DHCP), string(DHCP6), string(RA), string(Static), string(None)}
}

// setNet takes windlass.net=[DEVICE,]METHOD|ADDRESS/BITS[,…][,KEY=VALUE…], or off.
func (o *Options) setNet(v string) error {
	if v == "off" {
		o.NoNetwork, o.Links = true, nil
		return nil
	}
	l, err := ParseLink(v)
	if err != nil {
		return err
	}
	o.NoNetwork = false
	o.Links = append(o.Links, l)
	return nil
}

// deviceName is what the kernel takes (dev_valid_name), and less.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

// ParseLink reads what windlass.net says of one device.
func ParseLink(text string) (l Link, err error) {
	fields := split(text, ",")
	if len(fields) == 0 {
		return l, errors.New("it says nothing")
	}
	if first := fields[0]; !strings.Contains(first, "=") && !slices.Contains(methods(), first) && !isPrefix(first) {
		if err := l.name(first); err != nil {
			return l, err
		}
		fields = fields[1:]
	}
	for _, f := range fields {
		if err := l.field(f); err != nil {
			return l, err
		}
	}
	return l, l.complete()
}

func isPrefix(v string) bool {
	_, err := netip.ParsePrefix(v)
	return err == nil
}

func (l *Link) name(v string) error {
	if mac, err := net.ParseMAC(v); err == nil {
		l.MAC = mac
		return nil
	}
	if v == "*" {
		return nil
	}
	if !deviceName.MatchString(v) {
		return fmt.Errorf("%.40q is neither the name of a device nor its MAC address, nor one of %s", v, strings.Join(methods(), ", "))
	}
	l.Device = v
	return nil
}

// field takes a method, an address, or KEY=VALUE.
func (l *Link) field(f string) error {
	key, value, pair := strings.Cut(f, "=")
	switch {
	case pair:
		return l.pair(key, value)
	case slices.Contains(methods(), f):
		if l.Method != "" && l.Method != Method(f) {
			return fmt.Errorf("%s and %s are two methods for one device", l.Method, f)
		}
		l.Method = Method(f)
		return nil
	}
	p, err := netip.ParsePrefix(f)
	if err != nil || p.Addr().Zone() != "" {
		return fmt.Errorf("%.60q is neither a method (%s) nor an address with its prefix, such as 10.1.2.3/24", f, strings.Join(methods(), ", "))
	}
	l.Addresses = append(l.Addresses, p)
	return nil
}

func (l *Link) pair(key, value string) (err error) {
	switch key {
	case "gw", "dns":
		for _, one := range split(value, "+") {
			a, err := parseAddr(one)
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if key == "gw" {
				l.Gateways = append(l.Gateways, a)
			} else {
				l.DNS = append(l.DNS, a)
			}
		}
	case "route":
		return l.route(value)
	case "search":
		l.Search = append(l.Search, split(value, "+")...)
	case "ntp":
		l.NTP = append(l.NTP, split(value, "+")...)
	case "mtu":
		l.MTU, err = parseNumber(value, 576, 65535)
	case "vlan":
		l.VLAN, err = parseNumber(value, 1, 4094)
	case "parent":
		l.Parent = value
	case "bond":
		l.Bond = split(value, "+")
	case "mode":
		return oneOf(&l.BondMode, BondModes()...)(value)
	case "miimon":
		l.Miimon, err = parseNumber(value, 1, 60000)
	default:
		return fmt.Errorf("%q is none of gw, route, dns, search, ntp, mtu, vlan, parent, bond, mode, miimon", key)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// route takes PREFIX@GATEWAY.
func (l *Link) route(value string) error {
	to, via, _ := strings.Cut(value, "@")
	p, err := netip.ParsePrefix(to)
	a, viaErr := parseAddr(via)
	if err != nil || viaErr != nil || a.Is4() != p.Addr().Is4() {
		return fmt.Errorf("route: %q is not as 10.0.0.0/8@10.1.2.254", value)
	}
	l.Routes = append(l.Routes, Route{p.Masked(), a})
	return nil
}
