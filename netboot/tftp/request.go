package tftp

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// The kinds of packets, and codes of errors: RFC 1350.
const (
	opRead, opWrite, opData, opAck, opError, opOptions = 1, 2, 3, 4, 5, 6

	codeOther, codeNotFound, codeAccess, codeIllegal = 0, 1, 2, 4
)

// request is who asks for a file.
type request struct {
	from  netip.AddrPort
	to    net.Addr // the same, as sockets want it
	oob   []byte   // sends from the address that was asked
	came  time.Time
	name  string
	block int // bytes
	// window is how many blocks are sent before an answer is waited for.
	window int
	// options are those that are answered, by their names.
	size, blocks, windows bool
}

// parse reads a packet that asks to read, without its first two bytes.
func parse(p []byte) (*request, error) {
	words := bytes.Split(p, []byte{0})
	if len(words) < 3 || len(words[len(words)-1]) > 0 { // each ends with a zero
		return nil, fault.New(fault.Invalid, "the request is cut short")
	}
	if mode := string(words[1]); !strings.EqualFold(mode, "octet") {
		return nil, fault.New(fault.Invalid, "files are sent in mode octet, not %.20q", mode)
	}
	r := &request{name: string(words[0]), block: 512, window: 1}
	for words = words[2:]; len(words) >= 2; words = words[2:] {
		r.option(strings.ToLower(string(words[0])), string(words[1]))
	}
	return r, nil
}

// option takes one that makes sense; others are not answered, which RFC 2347 has a server do.
func (r *request) option(name, text string) {
	v, err := strconv.ParseUint(text, 10, 16)
	if name == "tsize" {
		r.size = true // whatever it says: it should be 0
	}
	switch {
	case err != nil:
	case name == "blksize" && v >= 8 && v <= 65464:
		r.block, r.blocks = int(min(v, maxBlock)), true
	case name == "windowsize" && v >= 1:
		r.window, r.windows = int(min(v, maxWindow)), true
	}
}

// asked takes a request in; it waits for room. Who is known has asked again.
func (s *Server) asked(r *request) {
	s.mu.Lock()
	c := s.known[r.from]
	known := c != nil
	if !known {
		c = &client{}
		s.known[r.from] = c
	}
	c.asked = r.came
	p := c.port
	s.mu.Unlock()
	if known {
		if p != nil {
			go p.anew(r) // p may be locked
		}
		return
	}
	select {
	case s.queue <- r:
	default:
		s.forget(r.from)
		s.quiet.Do("full", func(more int) {
			s.o.Log.WithField("more", more).Warnf("TFTP: %d requests wait already; who asks now has to ask again", maxWaiting)
		})
	}
}

func (s *Server) forget(from netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, from)
}

// openAll starts transfers, as there is room for them.
func (s *Server) openAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-s.queue:
			select {
			case <-ctx.Done():
				return
			case s.slots <- struct{}{}:
			}
			if s.gone(r) || !s.begin(r) {
				<-s.slots
				s.forget(r.from)
			}
		}
	}
}

// gone reports whether a node has not asked for long.
func (s *Server) gone(r *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.known[r.from]
	return c == nil || time.Since(c.asked) > patience
}

// begin starts one transfer.
func (s *Server) begin(r *request) bool {
	s.mu.Lock()
	p := s.ports[s.next%len(s.ports)]
	s.next++
	s.mu.Unlock()
	f, st, err := s.o.Tree.Open(r.name)
	if err != nil {
		switch {
		case fault.Is(err, fault.NotFound):
			p.refuse(r, codeNotFound, "file not found")
		case fault.Is(err, fault.Forbidden) || fault.Is(err, fault.Invalid):
			p.refuse(r, codeAccess, "access violation")
		default:
			p.refuse(r, codeOther, "the file cannot be read")
		}
		s.note(r.name, r.from.Addr(), 0, time.Since(r.came), err)
		return false
	}
	s.mu.Lock()
	if c := s.known[r.from]; c != nil {
		c.port = p
	}
	s.mu.Unlock()
	p.start(newTransfer(s, r, f, st.Size()))
	return true
}

// ended gives back what a transfer held.
func (s *Server) ended(t *transfer, err error) {
	t.f.Close()
	s.forget(t.from)
	<-s.slots
	go s.note(t.name, t.from.Addr(), min(int64(t.base-1)*int64(t.block), t.length), time.Since(t.came), err) // the socket does not wait for the log
}
