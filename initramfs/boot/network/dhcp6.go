package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/vishvananda/netlink"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// dhcp6 asks for an address when that was asked for, or a router is there that gives none, and keeps it.
func (d *device) dhcp6(ctx context.Context) {
	if !d.wait(ctx, func() bool { return d.local }) {
		return
	}
	if d.spec.Method == cmdline.Auto && !d.managed(ctx) {
		return
	}
	t := d.net.cfg.Timing
	pause := t.Pause
	for round := 1; ctx.Err() == nil; round++ {
		reply, err := d.solicit(ctx)
		if err == nil {
			pause = t.Pause
			d.keep6(ctx, reply)
			continue
		}
		wait := pause/2 + rand.N(pause) //nolint:gosec // not a secret
		pause = min(2*pause, t.Longest)
		if errors.Is(err, nclient6.ErrNoResponse) {
			err = errors.New("no server answers")
		}
		if ctx.Err() == nil {
			d.round("DHCPv6", round, err, wait)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// managed waits for a router, and says whether it leaves the addresses to DHCPv6.
func (d *device) managed(ctx context.Context) bool {
	for {
		if !sleep(ctx, d.net.cfg.Timing.Router) {
			return false
		}
		d.mu.Lock()
		has := d.global.IsValid()
		d.mu.Unlock()
		if has {
			return false
		}
		routes, err := netlink.RouteList(d.link, netlink.FAMILY_V6)
		if err != nil {
			return false
		}
		for _, r := range routes {
			if r.Gw != nil && (r.Dst == nil || r.Dst.IP.IsUnspecified()) {
				return true
			}
		}
	}
}

func (d *device) client6() (*nclient6.Client, error) {
	return nclient6.New(d.called(), nclient6.WithTimeout(d.net.cfg.Timing.Answer), nclient6.WithRetry(2))
}

// solicit asks for an address.
func (d *device) solicit(ctx context.Context) (*dhcpv6.Message, error) {
	c, err := d.client6()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	wishes := dhcpv6.WithRequestedOptions(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionNTPServer)
	// Without the time, which the library puts in: the server is to know the node again after a reboot (RFC 8415, 11).
	who := dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: d.mac})
	adv, err := c.Solicit(ctx, wishes, who)
	if err != nil {
		return nil, err
	}
	reply, err := c.Request(ctx, adv, wishes)
	if err != nil {
		return nil, err
	}
	_, _, err = address6(reply)
	return reply, err
}

// address6 takes the address out of an answer, and when it is to be renewed.
func address6(m *dhcpv6.Message) (netip.Prefix, time.Duration, error) {
	ia := m.Options.OneIANA()
	if ia == nil || ia.Options.OneAddress() == nil {
		return netip.Prefix{}, 0, errors.New("the server answers, and gives no address")
	}
	a := ia.Options.OneAddress()
	ip, ok := netip.AddrFromSlice(a.IPv6Addr)
	if !ok || !usable(ip) || ip.IsLinkLocalUnicast() {
		return netip.Prefix{}, 0, fmt.Errorf("the server gives %s, which is no address of a node", a.IPv6Addr)
	}
	life := a.PreferredLifetime
	if life <= 0 {
		life = a.ValidLifetime
	}
	return netip.PrefixFrom(ip, 128), renewal(ia.T1, life), nil // routers say what else is on the link
}

// keep6 sets what the answer says and renews it until that fails for good.
func (d *device) keep6(ctx context.Context, reply *dhcpv6.Message) {
	var has netip.Prefix
	for failures := 0; ; {
		p, renew, err := address6(reply)
		if err != nil {
			return
		}
		if failures == 0 {
			d.apply6(p, reply)
			if has.IsValid() && has != p {
				d.say("the DHCPv6 server gives %s in place of %s", p, has)
				d.tell(d.dropAddress(has))
			}
			has = p
		}
		if !sleep(ctx, renew>>min(failures, 6)) {
			return
		}
		next, err := d.renew6(ctx, reply)
		if err == nil {
			if _, _, err = address6(next); err == nil {
				reply, failures = next, 0
				continue
			}
		}
		if failures++; failures > 8 { // another server may know better; the address stays
			return
		}
	}
}

func (d *device) apply6(p netip.Prefix, reply *dhcpv6.Message) {
	if err := d.setAddress(p); err != nil {
		d.say("%v", err)
		return
	}
	s := d.settings(p)
	s.From = "a DHCPv6 server"
	s.DNS = append(s.DNS, onLink(addresses(reply.Options.DNS()), d.name)...)
	if labels := reply.Options.DomainSearchList(); labels != nil {
		s.Search = append(s.Search, labels.Labels...)
	}
	for _, t := range onLink(addresses(reply.Options.NTPServers()), d.name) {
		s.NTP = append(s.NTP, t.String())
	}
	d.net.add(d, "dhcp6", s, laterIf(d.spec.Method == cmdline.Auto))
}

// renew6 asks the server for more time, RFC 8415, 18.2.4.
func (d *device) renew6(ctx context.Context, old *dhcpv6.Message) (*dhcpv6.Message, error) {
	c, err := d.client6()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	m, err := dhcpv6.NewMessage()
	if err != nil {
		return nil, err
	}
	m.MessageType = dhcpv6.MessageTypeRenew
	for _, code := range []dhcpv6.OptionCode{dhcpv6.OptionClientID, dhcpv6.OptionServerID, dhcpv6.OptionIANA} {
		if o := old.GetOneOption(code); o != nil {
			m.AddOption(o)
		}
	}
	m.AddOption(dhcpv6.OptElapsedTime(0))
	return c.SendAndRead(ctx, c.RemoteAddr(), m, nclient6.IsMessageType(dhcpv6.MessageTypeReply))
}
