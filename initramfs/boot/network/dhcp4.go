package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

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

// dhcp4 gets a lease, however long it takes, and keeps it.
func (d *device) dhcp4(ctx context.Context) {
	for ctx.Err() == nil {
		lease := d.discover(ctx)
		if lease == nil {
			return
		}
		d.keep4(ctx, lease)
	}
}

// discover asks until somebody answers.
func (d *device) discover(ctx context.Context) *nclient4.Lease {
	t := d.net.cfg.Timing
	for round, pause := 1, t.Pause; ; round, pause = round+1, min(2*pause, t.Longest) {
		lease, err := d.ask4(func(c *nclient4.Client) (*nclient4.Lease, error) { return c.Request(ctx, d.wishes()...) })
		if err == nil {
			if _, err = d.believe4(lease.ACK); err == nil {
				return lease
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		wait := pause/2 + rand.N(pause) //nolint:gosec // not a secret
		d.say("DHCP, round %d: %v; again in %.1f s", round, reason(err), wait.Seconds())
		if !sleep(ctx, wait) || !d.wait(ctx, func() bool { return d.up }) {
			return nil
		}
	}
}

func reason(err error) string {
	if errors.Is(err, nclient4.ErrNoResponse) {
		return "no server answers"
	}
	return err.Error()
}

// ask4 makes a client for one exchange.
func (d *device) ask4(fn func(*nclient4.Client) (*nclient4.Lease, error)) (*nclient4.Lease, error) {
	c, err := nclient4.New(d.name, nclient4.WithTimeout(d.net.cfg.Timing.Answer), nclient4.WithRetry(2), nclient4.WithHWAddr(d.mac))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return fn(c)
}

// wishes are what is asked for.
func (d *device) wishes() []dhcpv4.Modifier {
	m := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier("windlass")),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName,
			dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionHostName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers,
			dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue),
	}
	if d.net.cfg.Hostname != "" {
		m = append(m, dhcpv4.WithOption(dhcpv4.OptHostName(d.net.cfg.Hostname)))
	}
	return m
}

// keep4 sets what the lease says and renews it, until it is taken away.
func (d *device) keep4(ctx context.Context, lease *nclient4.Lease) {
	now, err := d.believe4(lease.ACK)
	if err != nil {
		return
	}
	d.apply4(now)
	for expires := time.Now().Add(lease.ACK.IPAddressLeaseTime(time.Hour)); ; {
		if !sleep(ctx, now.renew) {
			return
		}
		next, err := d.ask4(func(c *nclient4.Client) (*nclient4.Lease, error) { return c.Renew(ctx, lease) })
		var nak *nclient4.ErrNak
		switch {
		case ctx.Err() != nil:
			return
		case errors.As(err, &nak):
			d.say("the DHCP server takes %s away", now.Address)
			d.tell(d.dropAddress(now.Address))
			return
		case err != nil && time.Now().After(expires):
			// The address stays: storage may lie behind it, and nobody can have it who asks whether it is free.
			d.say("the lease of %s has run out, and nobody renews it: %s; it is kept", now.Address, reason(err))
			now.renew = max(time.Until(expires)/2, d.net.cfg.Timing.Longest)
		case err != nil:
			now.renew = max(time.Until(expires)/2, d.net.cfg.Timing.Pause)
		default:
			lease, expires = next, time.Now().Add(next.ACK.IPAddressLeaseTime(time.Hour))
			if now, err = d.believe4(lease.ACK); err != nil {
				return
			}
			d.apply4(now)
		}
	}
}

func (d *device) apply4(l lease4) {
	if l.mtu > 0 && d.spec.MTU == 0 {
		d.tell(wrap("MTU from DHCP", netlink.LinkSetMTU(d.link, l.mtu)))
	}
	if err := d.setAddress(l.Address); err != nil {
		d.say("%v", err)
		return
	}
	for _, gw := range l.gateways[:min(len(l.gateways), 1)] {
		d.tell(d.setRoute(netip.Prefix{}, gw))
	}
	for _, r := range l.routes {
		d.tell(d.setRoute(r.To, r.Via))
	}
	d.net.add(d, "dhcp4", l.Settings, atOnce)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// believe4 takes out of an answer what can be true.
func (d *device) believe4(p *dhcpv4.DHCPv4) (l lease4, err error) {
	ip, ok := netip.AddrFromSlice(p.YourIPAddr.To4())
	if !ok || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() {
		return l, fmt.Errorf("%s answers, and gives no address (%s)", server(p), p.YourIPAddr)
	}
	mask := p.SubnetMask()
	bits, size := mask.Size()
	if size != 32 || bits == 0 {
		bits, _ = net.IP(ip.AsSlice()).DefaultMask().Size()
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
	l.renew = p.IPAddressRenewalTime(p.IPAddressLeaseTime(time.Hour) / 2)
	l.renew = max(l.renew, time.Second)
	return l, nil
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

// addresses takes no more than are of use.
func addresses(ips []net.IP) (list []netip.Addr) {
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok && !a.IsUnspecified() && !a.IsMulticast() && len(list) < maxServers {
			list = append(list, a.Unmap())
		}
	}
	return list
}
