package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
)

// Resolve finds an interface and the server's address on it.
func Resolve(i config.Interface) (Wire, error) {
	w := Wire{Name: i.Name, Mode: i.Mode, Address: i.Address}
	dev, err := net.InterfaceByName(i.Name)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without how it was looked for
		}
		return w, fault.New(fault.NotFound, "interface %s: %w", i.Name, err)
	}
	w.Index = dev.Index
	if w.Address.IsValid() {
		return w, nil
	}
	addrs, err := dev.Addrs()
	if err != nil {
		return w, fmt.Errorf("interface %s: %w", i.Name, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			w.Address = p.Addr()
			return w, nil
		}
	}
	return w, fault.Hintf(fault.New(fault.BadState, "interface %s has no IPv4 address", i.Name), "give it one: ip address add ADDRESS/BITS dev %s", i.Name)
}

// sockets are open together and closed together.
type sockets struct {
	wire Wire
	dhcp *net.UDPConn
	pxe  *net.UDPConn // nil where addresses are given
	raw  *raw
	arp  *arp // nil where no address is looked for
}

func (s *sockets) close() {
	if s.arp != nil {
		s.arp.close()
	}
	s.dhcp.Close()
	if s.pxe != nil {
		s.pxe.Close()
	}
	s.raw.close()
}

func open(ctx context.Context, i config.Interface) (*sockets, error) {
	w, err := Resolve(i)
	if err != nil {
		return nil, err
	}
	s := &sockets{wire: w}
	if s.raw, err = openRaw(w.Index); err != nil {
		return nil, fmt.Errorf("interface %s: %w", w.Name, err)
	}
	if s.dhcp, err = openUDP(ctx, w.Name, ServerPort); err != nil {
		s.raw.close()
		return nil, err
	}
	if w.Mode == config.DHCP && i.Probe {
		if s.arp, err = openARP(w.Index); err != nil {
			s.dhcp.Close()
			s.raw.close()
			return nil, fmt.Errorf("interface %s: %w", w.Name, err)
		}
		if s.arp != nil {
			s.wire.Probe = s.arp
		}
	}
	if w.Mode == config.Proxy {
		if s.pxe, err = openUDP(ctx, w.Name, PXEPort); err != nil {
			s.dhcp.Close()
			s.raw.close()
			return nil, err
		}
	}
	return s, nil
}
