// Package ra answers IPv6 router solicitations with an advertisement that says nothing: no router, no prefix.
//
// iPXE waits some 15 s for one on a wire that has no IPv6 router. It is for such wires alone, and only where the configuration asks for it: a
// lifetime of 0 makes no node use this machine as its router, and takes no other router away.
package ra

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/time/rate"

	"github.com/windlass-hpc/windlass/netboot/quiet"
)

const (
	// hops must be 255, or the receiver drops the packet: RFC 4861, 6.1.
	hops = 255
	// most is how many answers a second there are: one is for all who wait.
	most = 10
)

const (
	// retryTime is how long an interface that failed is left alone.
	retryTime = 2 * time.Second
	// lookTime is how often it is looked whether the interface is still the one that was opened: no socket of this kind tells when it has gone.
	lookTime = 2 * time.Second
)

// Server answers on one interface.
type Server struct {
	name  string
	log   logrus.FieldLogger
	quiet *quiet.Log
	s     *socket // nil while the interface is away
}

type socket struct {
	dev  *net.Interface
	conn *icmp.PacketConn
}

// Listen opens the socket of an interface, so that what is wrong shows before anything is served.
func Listen(name string, log logrus.FieldLogger) (*Server, error) {
	s, err := open(name)
	if err != nil {
		return nil, err
	}
	return &Server{name: name, log: log.WithField("wire", name), quiet: quiet.New(time.Now), s: s}, nil
}

func open(name string) (*socket, error) {
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
	return &socket{dev, conn}, nil
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

// Serve answers until ctx ends. An interface that goes away is waited for.
func (s *Server) Serve(ctx context.Context) {
	for ctx.Err() == nil {
		if s.s != nil {
			err := s.s.serve(ctx)
			s.s = nil
			if ctx.Err() != nil {
				return
			}
			s.quiet.Do("failed", func(more int) {
				s.log.WithField("more", more).WithError(err).Warn("empty router advertisements have stopped; they are tried again until they work")
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryTime):
		}
		var err error
		if s.s, err = open(s.name); err != nil {
			s.quiet.Do("reopen", func(int) { s.log.WithError(err).Warn("empty router advertisements cannot be sent yet") })
			continue
		}
		s.quiet.Do("back", func(int) { s.log.Info("empty router advertisements are sent again") })
	}
	if s.s != nil {
		s.s.conn.Close()
	}
}

// serve answers until ctx ends; the error is why it ended before.
func (s *socket) serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	defer s.conn.Close()
	p := s.conn.IPv6PacketConn()
	buf := make([]byte, 1500)
	limit := rate.NewLimiter(most, 1)
	looked := time.Time{}
	for {
		if time.Since(looked) >= lookTime {
			if err := s.look(); err != nil {
				return err
			}
			looked = time.Now()
		}
		_, cm, _, err := p.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
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

// look sees whether the interface is the one that was opened, and has the next read end in time for the next look.
func (s *socket) look() error {
	dev, err := net.InterfaceByIndex(s.dev.Index)
	if err == nil && dev.Name != s.dev.Name {
		err = fmt.Errorf("it is called %s now", dev.Name)
	}
	if err != nil {
		return fmt.Errorf("interface %s has gone: %w", s.dev.Name, err)
	}
	return s.conn.SetReadDeadline(time.Now().Add(lookTime))
}

// message is an advertisement with a lifetime of 0 and our own address on the wire: RFC 4861, 4.2.
func (s *socket) message() ([]byte, error) {
	body := append([]byte{64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, s.dev.HardwareAddr...)
	m := icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: body}}
	return m.Marshal(nil)
}
