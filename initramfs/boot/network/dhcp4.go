package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// dhcp4 gets a lease, however long it takes, and keeps it.
func (d *device) dhcp4(ctx context.Context) {
	for declined := 0; ctx.Err() == nil; {
		lease := d.discover(ctx)
		if lease == nil {
			return
		}
		if d.keep4(ctx, lease, declined < maxDeclined) {
			declined++
		} else {
			declined = 0
		}
	}
}

// discover asks until somebody answers.
func (d *device) discover(ctx context.Context) *nclient4.Lease {
	t := d.net.cfg.Timing
	for round, pause := 1, t.Pause; ; round, pause = round+1, min(2*pause, t.Longest) {
		lease, err := d.ask4(func(c *nclient4.Client) (*nclient4.Lease, error) { return d.request(ctx, c) })
		if err == nil {
			if _, err = d.believe4(lease.ACK); err == nil {
				return lease
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		wait := pause/2 + rand.N(pause) //nolint:gosec // not a secret
		d.round("DHCP", round, reason(err), wait)
		if !sleep(ctx, wait) || !d.wait(ctx, func() bool { return d.up }) {
			return nil
		}
	}
}

// request asks for an address: for the one that the device has, should a process before this one have got it. It need not be another.
func (d *device) request(ctx context.Context, c *nclient4.Client) (*nclient4.Lease, error) {
	wishes := d.wishes()
	if ip, ok := d.held(); ok {
		wishes = append(wishes, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip.AsSlice())))
	}
	offer, err := c.DiscoverOffer(ctx, wishes...)
	if err != nil {
		return nil, err
	}
	return c.RequestFromOffer(ctx, offer, d.wishes()...)
}

func reason(err error) error {
	if errors.Is(err, nclient4.ErrNoResponse) {
		return errors.New("no server answers")
	}
	return err
}

// ask4 makes a client for one exchange.
func (d *device) ask4(fn func(*nclient4.Client) (*nclient4.Lease, error)) (*nclient4.Lease, error) {
	c, err := nclient4.New(d.called(), nclient4.WithTimeout(d.net.cfg.Timing.Answer), nclient4.WithRetry(2), nclient4.WithHWAddr(d.mac))
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

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
