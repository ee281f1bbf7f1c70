package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/netboot/config"
)

// retryTime is how long an interface that failed is left alone.
const retryTime = 2 * time.Second

// Server is the sockets of one wire.
type Server struct {
	h       *Handler
	wire    config.Interface
	buffers sync.Pool // of *[maxPacket + 1]byte
	mu      sync.Mutex
	s       *sockets
	failed  error // why there are none
}

// Failing gives why the wire is not served at the moment; nil when it is.
func (s *Server) Failing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s != nil || s.failed == nil {
		return nil
	}
	return fmt.Errorf("interface %s is not served: %w", s.wire.Name, s.failed)
}

// Listen opens the sockets of a wire, so that what is wrong shows before anything is served.
func Listen(ctx context.Context, h *Handler, i config.Interface) (*Server, error) {
	s, err := open(ctx, i)
	if err != nil {
		return nil, err
	}
	return &Server{h: h, wire: i, buffers: sync.Pool{New: func() any { return new([maxPacket + 1]byte) }}, s: s}, nil
}

// Serve answers until ctx ends. An interface that goes away is waited for.
func (s *Server) Serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.s != nil {
			s.s.close()
		}
	})
	defer stop()
	for ctx.Err() == nil {
		s.mu.Lock()
		now := s.s
		s.mu.Unlock()
		if now != nil {
			err := s.serve(ctx, now)
			s.mu.Lock()
			now.close()
			s.s, s.failed = nil, err
			s.mu.Unlock()
			if ctx.Err() != nil {
				return
			}
			s.h.o.Log.WithField("wire", s.wire.Name).WithError(err).Error("the interface failed; it is tried again until it works")
		}
		s.reopen(ctx)
	}
}

func (s *Server) reopen(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(retryTime):
	}
	next, err := open(ctx, s.wire)
	if err != nil {
		s.h.quiet.Do("reopen "+s.wire.Name, func(int) {
			s.h.o.Log.WithField("wire", s.wire.Name).WithError(err).Warn("the interface is not back yet")
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.s, s.failed = next, err; next == nil {
		return
	}
	if ctx.Err() != nil {
		next.close()
		s.s = nil
		return
	}
	s.h.o.Log.WithField("wire", s.wire.Name).Info("the interface is back")
}

// serve answers until a socket fails, and gives why.
func (s *Server) serve(ctx context.Context, now *sockets) error {
	failed := make(chan error, 4)
	var all sync.WaitGroup
	all.Go(func() { failed <- s.answer(ctx, now, now.dhcp, ServerPort) })
	if now.pxe != nil {
		all.Go(func() { failed <- s.answer(ctx, now, now.pxe, PXEPort) })
	}
	if now.arp != nil {
		all.Go(func() { failed <- now.arp.read() })
	}
	all.Go(func() { failed <- s.overhear(now) })
	err := <-failed
	now.close()
	all.Wait()
	return err
}

// atOnce is how many packets of one socket are answered at once: leases that are given at the same time are synced to disk together. More wait
// in the socket.
const atOnce = 256

// answer reads packets and has them answered, until the socket fails.
func (s *Server) answer(ctx context.Context, now *sockets, conn *net.UDPConn, port int) error {
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		buf := s.buffers.Get().(*[maxPacket + 1]byte)
		n, from, err := conn.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			s.buffers.Put(buf)
			if transient(err) {
				continue
			}
			return err
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		slots <- struct{}{}
		all.Go(func() {
			s.one(ctx, now, conn, Packet{Data: buf[:n], From: from, Port: port})
			s.buffers.Put(buf)
			<-slots
		})
	}
}

// one answers a packet.
func (s *Server) one(ctx context.Context, now *sockets, conn *net.UDPConn, p Packet) {
	a := s.h.Handle(ctx, now.wire, p)
	if a == nil {
		return
	}
	var err error
	if a.Hardware != nil {
		err = now.raw.send(now.wire.Address, a.To, a.Hardware, a.Data)
	} else {
		_, err = conn.WriteToUDPAddrPort(a.Data, a.To)
	}
	if err != nil {
		s.h.drop(now.wire, "not-sent", "an answer to "+a.To.String()+" could not be sent: "+err.Error())
	}
}

// overhear listens to other servers.
func (s *Server) overhear(now *sockets) error {
	buf := make([]byte, 4096)
	for {
		data, err := now.raw.read(buf)
		if err != nil {
			if transient(err) {
				continue
			}
			return err
		}
		if data != nil {
			s.h.Overheard(now.wire, data)
		}
	}
}

// transient reports whether a socket can be read on: what an earlier answer met, such as a node that has gone, is told to the next read.
func transient(err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	var t interface{ Timeout() bool }
	return isRefused(err) || errors.As(err, &t) && t.Timeout()
}
