// Package tftp gives firmware the files that are published, by TFTP (RFC 1350, with the options of RFC 2347 to 2349 and 7440). Nothing can
// be written.
//
// It never opens a file by itself: that is package publish's, which decides by the name alone. Whatever is in a packet, a transfer costs no more
// than a buffer, and ends when it is not answered. Some sockets carry all transfers, so that their packets are read and sent many at a time.
package tftp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"runtime"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/nodes"
	"github.com/windlass-hpc/windlass/netboot/publish"
	"github.com/windlass-hpc/windlass/netboot/quiet"
)

const (
	// maxTransfers bounds those under way: each holds a file and a buffer. maxWaiting bounds the requests that wait for room.
	maxTransfers = 4096
	maxWaiting   = 16384
	// patience is how long a request may wait for room without being sent again: who sent it has gone.
	patience = 6 * time.Second
	// openers is how many files are opened at once.
	openers = 16
	// timeout is how long an answer is waited for before a block is sent again; it doubles up to maxTimeout. retries is how often; firstRetries
	// how often when nothing has been answered yet: a node that is there asks again by itself.
	timeout      = time.Second
	maxTimeout   = 4 * time.Second
	retries      = 5
	firstRetries = 1
	// maxBlock fits into one packet on Ethernet: fragments are what firmware is bad at. maxWindow is in blocks.
	maxBlock  = 1468
	maxWindow = 64
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
	main  *port   // that is asked
	ports []*port // that send: others, or main alone
	quiet *quiet.Log

	queue chan *request
	slots chan struct{}
	mu    sync.Mutex
	known map[netip.AddrPort]*client
	next  int // of ports
}

// client is who waits for a file, or is sent one.
type client struct {
	asked time.Time // for the last time
	port  *port     // nil while it waits
}

// Listen opens the sockets.
func Listen(ctx context.Context, o Options) (*Server, error) {
	s := &Server{o: o, quiet: quiet.New(time.Now), queue: make(chan *request, maxWaiting), slots: make(chan struct{}, maxTransfers), known: map[netip.AddrPort]*client{}}
	family := "udp" + config.Family(o.Config.Listen)
	var err error
	if s.main, err = s.open(ctx, family, o.Config.Listen); err != nil {
		return nil, fmt.Errorf("listen for TFTP: %w", err)
	}
	if o.Config.SinglePort {
		s.ports = []*port{s.main}
		return s, nil
	}
	host, _, err := net.SplitHostPort(o.Config.Listen)
	for range min(runtime.GOMAXPROCS(0), 4) {
		var p *port
		if err == nil {
			p, err = s.open(ctx, family, net.JoinHostPort(host, "0"))
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("open a port to send files by TFTP from: %w", err)
		}
		s.ports = append(s.ports, p)
	}
	return s, nil
}

func (s *Server) close() {
	s.main.conn.Close()
	for _, p := range s.ports {
		p.conn.Close()
	}
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.main.conn.LocalAddr() }

// Serve answers until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	ended := make(chan error, len(s.ports)+1)
	var all sync.WaitGroup
	opening, stop := context.WithCancel(ctx)
	for range openers {
		all.Go(func() { s.openAll(opening) })
	}
	ports := s.ports
	if ports[0] != s.main {
		ports = append([]*port{s.main}, ports...)
	}
	for _, p := range ports {
		all.Go(func() { ended <- p.read() })
		all.Go(func() { p.resend(opening) })
	}
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		s.drain()
	}
	stop()
	s.close()
	all.Wait()
	for _, p := range s.ports {
		p.endAll()
	}
	return err
}

// drain gives transfers that are under way a moment: a node that does not answer holds up nobody.
func (s *Server) drain() {
	for end := time.Now().Add(grace); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if len(s.slots) == 0 {
			return
		}
	}
}

// note tells how a transfer ended.
func (s *Server) note(name string, from netip.Addr, n int64, took time.Duration, err error) {
	log := s.o.Log.WithFields(map[string]any{"file": fmt.Sprintf("%.200q", name), "from": from.String(), "bytes": n, "dur_ms": took.Milliseconds()})
	if err == errOnlySize {
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
