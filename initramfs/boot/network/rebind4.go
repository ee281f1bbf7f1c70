package network

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// rebind asks every server for more time, as the one that gave the address does not answer (RFC 2131, 4.4.5). Who does not know the address
// may not take it away.
func (d *device) rebind(ctx context.Context, c *nclient4.Client, lease *nclient4.Lease) (*nclient4.Lease, error) {
	m, err := dhcpv4.NewRenewFromAck(lease.ACK, d.wishes()...)
	if err != nil {
		return nil, err
	}
	old := nclient4.IsCorrectServer(lease.Offer.ServerIdentifier())
	answer, err := c.SendAndRead(ctx, c.RemoteAddr(), m, func(p *dhcpv4.DHCPv4) bool {
		switch p.MessageType() {
		case dhcpv4.MessageTypeAck:
			return p.YourIPAddr.Equal(lease.ACK.YourIPAddr) || old(p)
		case dhcpv4.MessageTypeNak:
			return old(p)
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	if answer.MessageType() == dhcpv4.MessageTypeNak {
		return nil, &nclient4.ErrNak{Offer: lease.Offer, Nak: answer}
	}
	return &nclient4.Lease{Offer: answer, ACK: answer, CreationTime: time.Now()}, nil
}

// regain asks for the address anew when its lease has run out: another server may give it that knows nothing of it.
func (d *device) regain(ctx context.Context, c *nclient4.Client, lease *nclient4.Lease) (*nclient4.Lease, error) {
	if next, err := d.rebind(ctx, c, lease); err == nil {
		return next, nil
	}
	wishes := append(d.wishes(), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(lease.ACK.YourIPAddr)))
	offer, err := c.DiscoverOffer(ctx, wishes...)
	if err != nil {
		return nil, err
	}
	if !offer.YourIPAddr.Equal(lease.ACK.YourIPAddr) {
		return nil, fmt.Errorf("%s gives another one, %s", server(offer), offer.YourIPAddr)
	}
	next, err := c.RequestFromOffer(ctx, offer, d.wishes()...)
	var nak *nclient4.ErrNak
	if errors.As(err, &nak) { // an offer that is no more takes nothing away
		return nil, errors.New("what a server offers it does not give")
	}
	return next, err
}
