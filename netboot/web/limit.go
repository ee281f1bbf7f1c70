package web

import (
	"container/list"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// limited is a listener with a bound on the connections that are open. When there are as many, those that wait for nothing make room, the
// longest idle one first: nodes keep theirs for the next report. Unlike others it leaves the kernel to copy files: its connections are still
// TCP's own.
type limited struct {
	*net.TCPListener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	of      map[netip.Addr]int // connections of one address
	idle    *list.List         // of *counted, the longest idle in front
	waiting bool               // Accept waits for room
}

func newLimited(l *net.TCPListener, most int) *limited {
	return &limited{TCPListener: l, slots: make(chan struct{}, most), done: make(chan struct{}), of: map[netip.Addr]int{}, idle: list.New()}
}

// maxOfOne bounds the connections of one address: a node has a few.
const maxOfOne = 128

// Accept waits for a connection, and for room for it. Who has more than enough is hung up on.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.accept()
		if err != nil || l.count(c) {
			return c, err
		}
		c.Close()
	}
}

// count counts a connection against its address. It is false when that has too many.
func (l *limited) count(conn net.Conn) bool {
	c := conn.(*counted)
	from, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return true
	}
	a := from.AddrPort().Addr().Unmap()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[a] >= maxOfOne {
		return false
	}
	l.of[a]++
	c.from = a
	return true
}

func (l *limited) free(c *counted) {
	l.mu.Lock()
	if l.of[c.from]--; l.of[c.from] <= 0 {
		delete(l.of, c.from)
	}
	l.mu.Unlock()
	<-l.slots
}

func (l *limited) accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	default:
		l.makeRoom()
		select {
		case l.slots <- struct{}{}:
		case <-l.done:
			return nil, net.ErrClosed
		}
		l.mu.Lock()
		l.waiting = false
		l.mu.Unlock()
	}
	c, err := l.AcceptTCP()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &counted{TCPConn: c, l: l}, nil
}

// makeRoom closes the connection that has been idle for longest, or the next one that is.
func (l *limited) makeRoom() {
	l.mu.Lock()
	first := l.idle.Front()
	l.waiting = first == nil
	if first != nil {
		l.idle.Remove(first)
		first.Value.(*counted).place = nil
	}
	l.mu.Unlock()
	if first != nil {
		first.Value.(*counted).Close()
	}
}

// state is http.Server.ConnState.
func (l *limited) state(conn net.Conn, s http.ConnState) {
	c, ok := conn.(*counted)
	if !ok {
		return
	}
	l.mu.Lock()
	if c.place != nil {
		l.idle.Remove(c.place)
		c.place = nil
	}
	end := s == http.StateIdle && l.waiting
	if end {
		l.waiting = false
	} else if s == http.StateIdle {
		c.place = l.idle.PushBack(c)
	}
	l.mu.Unlock()
	if end {
		c.Close()
	}
}

// Close ends Accept, also one that waits for room.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.TCPListener.Close()
}

// counted gives its place free when it is closed.
type counted struct {
	*net.TCPConn
	l     *limited
	place *list.Element // among the idle ones; guarded by l.mu
	from  netip.Addr    // that it is counted against
	once  sync.Once
}

var _ io.ReaderFrom = (*counted)(nil) // what sendfile(2) hangs on

// Close implements net.Conn.
func (c *counted) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { c.l.free(c) })
	return err
}
