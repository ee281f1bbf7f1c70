package network

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// lease4 is what of an answer is believed.
type lease4 struct {
	Settings
	gateways []netip.Addr
	routes   []cmdline.Route
	mtu      int
	renew    time.Duration // after which it is to be renewed
}

// believe4 takes out of an answer what can be true.
func (d *device) believe4(p *dhcpv4.DHCPv4) (l lease4, err error) {
	ip, ok := netip.AddrFromSlice(p.YourIPAddr.To4())
	if !ok || !usable(ip) {
		return l, fmt.Errorf("%s answers, and gives no address (%s)", server(p), p.YourIPAddr)
	}
	mask := p.SubnetMask()
	bits, size := mask.Size()
	if size != 32 || bits == 0 {
		if bits, size = net.IP(ip.AsSlice()).DefaultMask().Size(); size != 32 {
			bits = 32 // an address that was of no class
		}
	}
	l.Settings = d.settings(netip.PrefixFrom(ip, bits))
	l.From = server(p)
	l.DNS = append(l.DNS, addresses(p.DNS())...)
	for _, t := range addresses(p.NTPServers()) {
		l.NTP = append(l.NTP, t.String())
	}
	if labels := p.DomainSearch(); labels != nil {
		l.Search = append(l.Search, labels.Labels...)
	}
	if name := p.DomainName(); len(l.Search) == 0 && name != "" {
		l.Search = append(l.Search, name)
	}
	if name := p.HostName(); l.Hostname == "" && cmdline.IsHostname(name) {
		l.Hostname = name
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, p.Options); err == nil && mtu >= 576 {
		l.mtu = int(mtu)
	}
	l.gateways = addresses(p.Router())
	for _, r := range p.ClasslessStaticRoute() {
		l.gateways = nil // RFC 3442: then the routers do not count
		l.addRoute(r)
	}
	l.renew = renewal(p.IPAddressRenewalTime(0), p.IPAddressLeaseTime(time.Hour))
	return l, nil
}

// ways are the routes of a lease, with the default one, whose To is not valid.
func (l *lease4) ways() (list []cmdline.Route) {
	for _, gw := range l.gateways[:min(len(l.gateways), 1)] {
		list = append(list, cmdline.Route{Via: gw})
	}
	return append(list, l.routes...)
}

func (l *lease4) addRoute(r *dhcpv4.Route) {
	to, ok := netip.AddrFromSlice(r.Dest.IP.To4())
	via, viaOK := netip.AddrFromSlice(r.Router.To4())
	ones, size := r.Dest.Mask.Size()
	if ok && viaOK && size == 32 {
		l.routes = append(l.routes, cmdline.Route{To: netip.PrefixFrom(to, ones).Masked(), Via: via})
	}
}

func server(p *dhcpv4.DHCPv4) string {
	if id := p.ServerIdentifier(); id != nil {
		return id.String()
	}
	return "a DHCP server"
}
