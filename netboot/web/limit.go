package web

import (
	"io"
	"net"
	"sync"
)

// limited is a listener with a bound on the connections that are open. Unlike others it leaves the kernel to copy files: its connections
// are still TCP's own.
type limited struct {
	*net.TCPListener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newLimited(l *net.TCPListener, most int) *limited {
	return &limited{TCPListener: l, slots: make(chan struct{}, most), done: make(chan struct{})}
}

// Accept waits for a connection, and for room for it.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.AcceptTCP()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &counted{TCPConn: c, free: func() { <-l.slots }}, nil
}

// Close ends Accept, also one that waits for room.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.TCPListener.Close()
}

// counted gives its place free when it is closed.
type counted struct {
	*net.TCPConn
	free func()
	once sync.Once
}

var _ io.ReaderFrom = (*counted)(nil) // what sendfile(2) hangs on

// Close implements net.Conn.
func (c *counted) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(c.free)
	return err
}
