// Package tftp gives firmware the files that are published, by TFTP. Nothing can be written.
//
// The protocol is github.com/pin/tftp's. It ends a transfer that is not answered, and it cannot be made to open a file: that is
// package publish's, which decides by the name alone.
package tftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path"
	"strings"
	"time"

	pin "github.com/pin/tftp/v3"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/publish"
	"github.com/windlass-hpc/windlass/netboot/quiet"
)

const (
	// timeout is how long an answer is waited for before a block is sent again, retries how often.
	timeout = time.Second
	retries = 5
	// maxBlock fits into one packet on Ethernet: fragments are what firmware is bad at.
	maxBlock = 1468
	// grace is how long transfers have when the server ends.
	grace = 2 * time.Second
)

// Meter counts transfers.
type Meter interface {
	Transfer(result string, bytes int64)
}

// Options are what a Server works with.
type Options struct {
	Config config.TFTP
	Tree   *publish.Tree
	Nodes  *nodes.Registry
	Log    logrus.FieldLogger
	Meter  Meter
}

// Server is a TFTP server.
type Server struct {
	o     Options
	conn  *net.UDPConn
	s     *pin.Server
	room  *room
	quiet *quiet.Log
}

// Listen opens the socket.
func Listen(ctx context.Context, o Options) (*Server, error) {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp"+config.Family(o.Config.Listen), o.Config.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for TFTP: %w", err)
	}
	makeRoom(conn.(*net.UDPConn))
	s := &Server{o: o, conn: conn.(*net.UDPConn), room: newRoom(), quiet: quiet.New(time.Now)}
	s.s = pin.NewServer(s.read, nil)
	s.s.SetTimeout(timeout)
	s.s.SetRetries(retries)
	s.s.SetBackoff(func(int) time.Duration { return 0 }) // the timeout is pause enough
	s.s.SetBlockSize(maxBlock)
	// It would look up the interface's MTU, and fall back to blocks of 512 bytes whenever that fails.
	s.s.SetBlockSizeNegotiation(false)
	// Never EnableSinglePort: a packet that comes when its transfer ends makes the library panic then.
	return s, nil
}

// makeRoom has the socket keep the requests of a cluster that is switched on at once.
func makeRoom(conn *net.UDPConn) {
	const bytes = 8 << 20
	_ = conn.SetReadBuffer(bytes) // as far as net.core.rmem_max lets
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes) }) // root may have more
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.conn.LocalAddr() }

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- s.s.Serve(s.conn) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	down := make(chan struct{})
	go func() { s.s.Shutdown(); close(down) }()
	select {
	case <-down:
	case <-time.After(grace): // a node that does not answer holds up nobody
	}
	return nil
}

// read answers one request.
func (s *Server) read(name string, to io.ReaderFrom) (err error) {
	var from netip.Addr
	if t, ok := to.(pin.OutgoingTransfer); ok {
		remote := t.RemoteAddr()
		from = remote.AddrPort().Addr().Unmap()
	}
	start := time.Now()
	n, err := s.transfer(name, from, to)
	s.note(name, from, n, time.Since(start), err)
	if fault.Is(err, fault.NotFound) {
		return errors.New("file not found")
	}
	if fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Invalid) {
		return errors.New("access violation")
	}
	return err
}

// transfer sends a file. The library's code for options can be made to panic by their lengths; that costs this transfer only.
func (s *Server) transfer(name string, from netip.Addr, to io.ReaderFrom) (n int64, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Invalid, "the request's options cannot be answered: %v", p)
		}
	}()
	leave, err := s.room.enter(from, patience)
	if err != nil {
		return 0, err
	}
	defer leave()
	f, st, err := s.o.Tree.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if t, ok := to.(pin.OutgoingTransfer); ok {
		t.SetSize(st.Size())
	}
	// no Seek for the library: it would ask for the size that it has
	return to.ReadFrom(io.LimitReader(f, st.Size()))
}

func (s *Server) note(name string, from netip.Addr, n int64, took time.Duration, err error) {
	log := s.o.Log.WithFields(map[string]any{"file": fmt.Sprintf("%.200q", name), "from": from.String(), "bytes": n, "dur_ms": took.Milliseconds()})
	if onlySize(n, err) {
		s.o.Meter.Transfer("size", 0)
		log.Debug("TFTP: asked for the size")
		return
	}
	base := fmt.Sprintf("%.80q", path.Base(name))
	seen := nodes.Seen{Addr: from, Source: nodes.TFTP, Bytes: n, Stage: bootstage.Program, Message: base}
	result := "sent"
	if err != nil {
		result = string(fault.KindOf(err))
		seen.Error = fmt.Sprintf("%s: %v", base, err)
	}
	_, node, _ := s.o.Nodes.See(seen)
	s.o.Meter.Transfer(result, n)
	if node != "" {
		log = log.WithField("node", node)
	}
	if err == nil {
		log.Info("TFTP: sent")
		return
	}
	s.quiet.Do(result+" "+from.String(), func(more int) { log.WithError(err).WithField("more", more).Warn("TFTP: not sent") })
}

// onlySize reports whether a node asked for the size of a file and then broke off, as firmware does before it fetches it. The library tells
// by its text alone that the node said so.
func onlySize(n int64, err error) bool {
	return err != nil && n == 0 && strings.HasPrefix(err.Error(), "sending block 0: code=")
}
