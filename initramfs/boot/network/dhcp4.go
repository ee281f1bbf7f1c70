package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

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
