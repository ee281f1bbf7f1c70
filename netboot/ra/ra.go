// Package ra answers IPv6 router solicitations with an advertisement that says nothing: no router, no prefix.
//
// iPXE waits some 15 s for one on a wire that has no IPv6 router. It is for such wires alone, and only where the configuration asks for it: a
// lifetime of 0 makes no node use this machine as its router, and takes no other router away.
package ra

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/time/rate"
)

const (
	// hops must be 255, or the receiver drops the packet: RFC 4861, 6.1.
	hops = 255
	// most is how many answers a second there are: one is for all who wait.
	most = 10
)

// Server answers on one interface.
type Server struct {
	dev  *net.Interface
	conn *icmp.PacketConn
}

// Listen opens the socket of an interface.
func Listen(name string) (*Server, error) {
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, fmt.Errorf("listen for router solicitations: %w", err)
	}
	if err := prepare(conn.IPv6PacketConn(), dev); err != nil {
		conn.Close()
		return nil, fmt.Errorf("listen for router solicitations on %s: %w", name, err)
	}
	return &Server{dev, conn}, nil
}

func prepare(p *ipv6.PacketConn, dev *net.Interface) error {
	var f ipv6.ICMPFilter
	f.SetAll(true)
	f.Accept(ipv6.ICMPTypeRouterSolicitation)
	if err := p.SetICMPFilter(&f); err != nil {
		return err
	}
	if err := p.SetMulticastHopLimit(hops); err != nil {
		return err
	}
	if err := p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true); err != nil {
		return err
	}
	return p.JoinGroup(dev, &net.IPAddr{IP: net.ParseIP("ff02::2")})
}

// Serve answers until ctx ends; the error is why it ended before.
func (s *Server) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	defer s.conn.Close()
	p := s.conn.IPv6PacketConn()
	buf := make([]byte, 1500)
	limit := rate.NewLimiter(most, 1)
	for {
		_, cm, _, err := p.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("router solicitations on %s: %w", s.dev.Name, err)
		}
		// one that came over a router is forged
		if cm == nil || cm.IfIndex != s.dev.Index || cm.HopLimit != hops || !limit.AllowN(time.Now(), 1) {
			continue
		}
		msg, err := s.message()
		if err != nil {
			return err
		}
		// without a link-local address of its own yet the machine cannot send it; nodes ask again
		_, _ = p.WriteTo(msg, &ipv6.ControlMessage{IfIndex: s.dev.Index, HopLimit: hops}, &net.IPAddr{IP: net.ParseIP("ff02::1"), Zone: s.dev.Name})
	}
}

// message is an advertisement with a lifetime of 0 and our own address on the wire: RFC 4861, 4.2.
func (s *Server) message() ([]byte, error) {
	body := append([]byte{64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, s.dev.HardwareAddr...)
	m := icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: body}}
	return m.Marshal(nil)
}
