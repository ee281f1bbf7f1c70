package tftp

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	// batch is how many packets are read or sent by one system call.
	batch = 64
	// maxPacket is what is read of a packet: nodes send requests and acknowledgements only.
	maxPacket = 1500
	// queued is how many bytes may wait in a socket.
	queued = 4 << 20
)

// port is a socket and the transfers that go through it.
type port struct {
	s    *Server
	conn *net.UDPConn
	many interface { // conn, for many packets
		ReadBatch([]ipv4.Message, int) (int, error)
		WriteBatch([]ipv4.Message, int) (int, error)
	}
	six bool // knows IPv6, and IPv4 by it

	mu        sync.Mutex
	transfers map[netip.AddrPort]*transfer
	out       []ipv4.Message // those up to used are to be sent
	heads     [batch][4]byte
	used      int
}

func (s *Server) open(ctx context.Context, family, listen string) (*port, error) {
	conn, err := (&net.ListenConfig{}).ListenPacket(ctx, family, listen)
	if err != nil {
		return nil, err
	}
	p := &port{s: s, conn: conn.(*net.UDPConn), transfers: map[netip.AddrPort]*transfer{}, out: make([]ipv4.Message, batch)}
	p.grow()
	for i := range p.out {
		p.out[i].Buffers = make([][]byte, 2)
	}
	if a := p.conn.LocalAddr().(*net.UDPAddr); a.IP.To4() == nil {
		p.six = true
		six := ipv6.NewPacketConn(p.conn)
		p.many, err = six, six.SetControlMessage(ipv6.FlagDst, true)
	} else {
		four := ipv4.NewPacketConn(p.conn)
		p.many, err = four, four.SetControlMessage(ipv4.FlagDst, true)
	}
	if err != nil {
		p.conn.Close()
		return nil, err
	}
	return p, nil
}

// grow has more packets wait in the socket, as far as that goes: a thousand nodes may ask at once.
func (p *port) grow() {
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queued) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, queued)
		}
	})
}

// source has answers sent from the address that was asked.
func (p *port) source(oob []byte) []byte {
	if p.six {
		var cm ipv6.ControlMessage
		if cm.Parse(oob) == nil && cm.Dst != nil && !cm.Dst.IsMulticast() {
			return (&ipv6.ControlMessage{Src: cm.Dst}).Marshal()
		}
		return nil
	}
	var cm ipv4.ControlMessage
	if cm.Parse(oob) == nil && cm.Dst != nil && !cm.Dst.IsMulticast() && !cm.Dst.Equal(net.IPv4bcast) {
		return (&ipv4.ControlMessage{Src: cm.Dst}).Marshal()
	}
	return nil
}

// read works on what comes, until the socket is closed.
func (p *port) read() error {
	in := make([]ipv4.Message, batch)
	for i := range in {
		in[i].Buffers, in[i].OOB = [][]byte{make([]byte, maxPacket)}, make([]byte, 128)
	}
	for {
		n, err := p.many.ReadBatch(in, 0)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // what an earlier packet met
			p.s.quiet.Do("read", func(more int) {
				p.s.o.Log.WithError(err).WithField("more", more).Warn("TFTP: a packet could not be read")
			})
			continue
		}
		now := time.Now()
		p.mu.Lock()
		for i := range in[:n] {
			p.packet(&in[i], now)
		}
		p.flush()
		p.mu.Unlock()
	}
}

func (p *port) packet(m *ipv4.Message, now time.Time) {
	data := m.Buffers[0][:m.N]
	addr, ok := m.Addr.(*net.UDPAddr)
	if !ok || len(data) < 4 {
		return
	}
	from := addr.AddrPort()
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	switch binary.BigEndian.Uint16(data) {
	case opRead:
		if p == p.s.main {
			p.request(m, from, data[2:], now)
		}
	case opWrite:
		if p == p.s.main {
			p.refuse(&request{to: addr, oob: p.source(m.OOB[:m.NN])}, codeAccess, "access violation: nothing can be written")
			name, _, _ := strings.Cut(string(data[2:]), "\x00")
			go p.s.note(name, from.Addr(), 0, 0, fault.New(fault.Forbidden, "nothing can be written"))
		}
	case opAck:
		if t := p.transfers[from]; t != nil {
			p.acknowledged(t, binary.BigEndian.Uint16(data[2:]), now)
		}
	case opError:
		if t := p.transfers[from]; t != nil {
			p.finish(t, said(t, data))
		}
	}
}

// said is how a transfer ends that the node ends.
func said(t *transfer, data []byte) error {
	if t.options {
		return errOnlySize
	}
	text, _, _ := strings.Cut(string(data[4:]), "\x00")
	return fault.New(fault.Unavailable, "the node ended it: code %d, %.100q", binary.BigEndian.Uint16(data[2:]), text)
}

func (p *port) request(m *ipv4.Message, from netip.AddrPort, data []byte, now time.Time) {
	oob := p.source(m.OOB[:m.NN])
	r, err := parse(data)
	if err != nil {
		p.refuse(&request{to: m.Addr, oob: oob}, codeIllegal, err.Error())
		go p.s.note("", from.Addr(), 0, 0, err)
		return
	}
	r.from, r.to, r.oob, r.came = from, m.Addr, oob, now
	p.s.asked(r)
}

// anew is for a node that asks again: it has not heard of the beginning of its transfer yet, or it has been started anew, and firmware may
// ask from the same port each time.
func (p *port) anew(r *request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.transfers[r.from]
	if t == nil {
		return // it ended meanwhile: the node asks once more
	}
	if t.base == 1 && t.name == r.name {
		p.send(t, r.came)
		p.flush()
		return
	}
	p.finish(t, fault.New(fault.Unavailable, "the node began anew"))
	p.s.asked(r)
}

// refuse sends an error, which nobody answers.
func (p *port) refuse(r *request, code uint16, text string) {
	packet := append([]byte{0, opError, byte(code >> 8), byte(code)}, text...)
	_, _, _ = p.conn.WriteMsgUDP(append(packet, 0), r.oob, r.to.(*net.UDPAddr)) // who hears nothing asks again
}

// start sends the first packet of a transfer.
func (p *port) start(t *transfer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.transfers[t.from] = t
	p.send(t, time.Now())
	p.flush()
}

func (p *port) acknowledged(t *transfer, block uint16, now time.Time) {
	send, done := t.answered(block, now)
	if send {
		p.send(t, now)
	}
	if done {
		p.finish(t, nil)
	}
}

// send sends the options, or the window.
func (p *port) send(t *transfer, now time.Time) {
	t.wait(now)
	if t.options {
		_, _, _ = p.conn.WriteMsgUDP(t.oack(), t.oob, t.to.(*net.UDPAddr)) // sent again, as all that is lost
		return
	}
	if !t.holds() {
		p.flush() // it may be of this buffer
		if err := t.fill(); err != nil {
			p.refuse(t.request, codeOther, "the file cannot be read")
			p.finish(t, err)
			return
		}
	}
	for block := t.base; block < t.end(); block++ {
		if p.used == batch {
			p.flush()
		}
		t.data(&p.out[p.used], p.heads[p.used][:], block)
		p.used++
	}
}

// flush sends what has gathered. What cannot be sent is lost, as packets may be.
func (p *port) flush() {
	for out := p.out[:p.used]; len(out) > 0; {
		n, err := p.many.WriteBatch(out, 0)
		if err != nil {
			n = max(n, 0) + 1
			if errors.Is(err, net.ErrClosed) {
				break
			}
		}
		out = out[min(n, len(out)):]
	}
	p.used = 0
}

// resend sends again what is not answered, until ctx ends.
func (p *port) resend(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			p.resendDue(now)
		}
	}
}

func (p *port) resendDue(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.transfers {
		switch {
		case now.Before(t.due):
		case t.again():
			p.send(t, now)
		default:
			p.finish(t, fault.New(fault.Timeout, "the node did not answer"))
		}
	}
	p.flush()
}

// finish ends a transfer. Its buffer may be in what has gathered, which stays as it is.
func (p *port) finish(t *transfer, err error) {
	delete(p.transfers, t.from)
	p.s.ended(t, err)
}

func (p *port) endAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.transfers {
		p.finish(t, fault.New(fault.Unavailable, "the server ends"))
	}
}
