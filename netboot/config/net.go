package config

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// maxPool bounds the addresses of a subnet that are given away: a search of all of them stays short.
const maxPool = 1 << 16

// The limits of lease times.
const (
	defaultLease = time.Hour
	minLease     = 10 * time.Second
	maxLease     = 30 * 24 * time.Hour
)

// listen judges an address to listen on; a host that is missing is 0.0.0.0. off gives "".
func (j *judge) listen(path string, value *string, fallback string) string {
	if value == nil {
		return fallback
	}
	text := *value
	if text == off {
		return ""
	}
	if strings.HasPrefix(text, ":") {
		text = "0.0.0.0" + text
	}
	if _, err := netip.ParseAddrPort(text); err != nil {
		j.addf(path, "%q is neither ADDRESS:PORT, :PORT nor off", *value)
	}
	return text
}

// PlainURL reports whether text is a URL of a web server to which paths can be added: http://HOST[:PORT][/PATH] or https://.
func PlainURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.RawQuery == "" && u.Fragment == "" && plainWord(text)
}

func (j *judge) http(f fileHTTP) HTTP {
	h := HTTP{Listen: j.listen("http.listen", f.Listen, defaultHTTP), URL: strings.TrimRight(f.URL, "/"), CheckSource: f.CheckSource == nil || *f.CheckSource}
	if f.URL != "" && !PlainURL(f.URL) {
		j.addf("http.url", "%q is no plain http://HOST[:PORT][/PATH]", f.URL)
	}
	for _, text := range f.StatusFrom {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			j.addf("http.status_from", "%q is no network such as 10.1.0.0/16", text)
			continue
		}
		h.StatusFrom = append(h.StatusFrom, p)
	}
	return h
}

// addr judges an IPv4 address; "" is the zero Addr.
func (j *judge) addr(path, text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		j.addf(path, "%q is no IPv4 address of a host", text)
		return netip.Addr{}
	}
	return a
}

func (j *judge) addrs(path string, texts []string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		if a := j.addr(path, text); a.IsValid() {
			list = append(list, a)
		}
	}
	if len(list) > 8 {
		j.addf(path, "more than 8 addresses do not fit into an answer")
	}
	return list
}

func (j *judge) subnets(in []fileSubnet) []Subnet {
	var list []Subnet
	for _, f := range in {
		at := "subnets." + f.Subnet
		p, err := netip.ParsePrefix(f.Subnet)
		if err != nil || !p.Addr().Is4() || p != p.Masked() || p.Bits() < 8 || p.Bits() > 30 {
			j.addf(at, "%q is no IPv4 network such as 10.1.0.0/16, from /8 to /30", f.Subnet)
			continue
		}
		for _, other := range list {
			if other.Prefix.Overlaps(p) {
				j.addf(at, "it overlaps %s", other.Prefix)
			}
		}
		s := Subnet{Prefix: p, Router: j.addr(at+".router", f.Router), DNS: j.addrs(at+".dns", f.DNS), NTP: j.addrs(at+".ntp", f.NTP),
			Domain: f.Domain, Lease: j.lease(at, f.LeaseTime)}
		if f.Domain != "" && !domain(f.Domain) {
			j.addf(at+".domain", "%q is no domain name", f.Domain)
		}
		if s.Router.IsValid() && !p.Contains(s.Router) {
			j.addf(at+".router", "%s is not in the subnet", s.Router)
		}
		s.Ranges = j.ranges(at, f.Ranges, p)
		list = append(list, s)
	}
	return list
}

func (j *judge) lease(at, text string) time.Duration {
	if text == "" {
		return defaultLease
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < minLease || d > maxLease {
		j.addf(at+".lease_time", "%q is no time from %s to %s, such as 1h", text, minLease, maxLease)
		return defaultLease
	}
	return d
}

func (j *judge) ranges(at string, texts []string, p netip.Prefix) []Range {
	var list []Range
	total := 0
	for _, text := range texts {
		first, last, _ := strings.Cut(text, "-")
		a, err1 := netip.ParseAddr(strings.TrimSpace(first))
		b, err2 := netip.ParseAddr(cmp.Or(strings.TrimSpace(last), strings.TrimSpace(first)))
		if err1 != nil || err2 != nil || !usable(p, a) || !usable(p, b) || b.Less(a) {
			j.addf(at+".ranges", "%q is no range FIRST-LAST of host addresses of %s", text, p)
			continue
		}
		r := Range{a, b}
		for _, other := range list {
			if other.Contains(a) || other.Contains(b) || r.Contains(other.First) {
				j.addf(at+".ranges", "%s overlaps %s-%s", text, other.First, other.Last)
			}
		}
		total += r.Size()
		list = append(list, r)
	}
	if total > maxPool {
		j.addf(at+".ranges", "these are %d addresses; at most %d can be", total, maxPool)
	}
	return list
}

// usable reports whether a is the address of a host in p.
func usable(p netip.Prefix, a netip.Addr) bool {
	return a.Is4() && p.Contains(a) && a != p.Addr() && a != Broadcast(p)
}

// Broadcast is the last address of an IPv4 network.
func Broadcast(p netip.Prefix) netip.Addr {
	n := number(p.Masked().Addr()) | (1<<(32-p.Bits()) - 1)
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func (j *judge) interfaces(in []fileInterface, subnets []Subnet) []Interface {
	var list []Interface
	seen := map[string]bool{}
	for _, f := range in {
		at := "interfaces." + f.Name
		i := Interface{Name: f.Name, Mode: Mode(f.Mode), Address: j.addr(at+".address", f.Address), EmptyRA: f.EmptyRA, Probe: f.Probe == nil || *f.Probe}
		if f.Name == "" || len(f.Name) > 15 || !plainWord(f.Name) || strings.Contains(f.Name, "/") {
			j.addf(at, "%q is no name of an interface", f.Name)
		}
		if seen[f.Name] {
			j.addf(at, "it is there twice")
		}
		seen[f.Name] = true
		j.oneOf(at+".mode", f.Mode, string(DHCP), string(Proxy), string(Off))
		if i.Mode == DHCP && len(subnets) == 0 {
			j.addf(at, "mode dhcp needs `subnets`")
		}
		if _, ok := (&Config{Subnets: subnets}).SubnetOf(i.Address); i.Mode == DHCP && i.Address.IsValid() && !ok {
			j.addf(at+".address", "%s is in none of the subnets", i.Address)
		}
		list = append(list, i)
	}
	return list
}

func (j *judge) nodes(in []fileNode, c *Config) []Node {
	var list []Node
	macs, ips, called := map[string]string{}, map[netip.Addr]string{}, map[string]bool{}
	for _, f := range in {
		at := "nodes." + cmp.Or(f.Name, f.MAC, "?")
		n := Node{Name: f.Name, Group: cmp.Or(f.Group, c.DefaultGroup), IP: j.addr(at+".ip", f.IP), Params: f.Params}
		if mac, err := net.ParseMAC(f.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			j.addf(at+".mac", "%q is no Ethernet address of a node such as 52:54:00:12:34:56", f.MAC)
		} else if n.MAC = mac.String(); macs[n.MAC] != "" {
			j.addf(at+".mac", "%s is that of %s too", n.MAC, macs[n.MAC])
		}
		if !domain(f.Name) {
			j.addf(at+".name", "%q is no host name", f.Name)
		} else if called[f.Name] {
			j.addf(at+".name", "it is there twice")
		}
		if _, ok := c.Groups[n.Group]; !ok {
			j.addf(at+".group", "there is no group %q; there are %s", n.Group, names(c.Groups))
		}
		if n.IP.IsValid() {
			s, ok := c.SubnetOf(n.IP)
			if ok = ok && usable(s.Prefix, n.IP); !ok && len(c.Subnets) > 0 {
				j.addf(at+".ip", "%s is no host address of a subnet", n.IP)
			}
			if ips[n.IP] != "" {
				j.addf(at+".ip", "%s is that of %s too", n.IP, ips[n.IP])
			}
			ips[n.IP] = f.Name
		}
		j.params(at, f.Params)
		macs[n.MAC], called[f.Name] = f.Name, true
		list = append(list, n)
	}
	return list
}
