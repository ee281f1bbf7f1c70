package origin

import (
	"context"
	"net"
	"sync"
	"time"
)

// conns are the connections to one origin. A http.Transport lets go only of idle ones; who closes a Set wants none left.
type conns struct {
	dialer net.Dialer
	ctx    context.Context //nolint:containedctx // ends with the Set
	cancel context.CancelFunc

	mu   sync.Mutex
	open map[*conn]struct{} // nil: closed
}

func newConns(timeout time.Duration) *conns {
	c := &conns{dialer: net.Dialer{Timeout: timeout}, open: map[*conn]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

func (c *conns) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	nc, err := c.dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return c.add(nc)
}

func (c *conns) add(nc net.Conn) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		nc.Close()
		return nil, net.ErrClosed
	}
	n := &conn{Conn: nc, of: c}
	c.open[n] = struct{}{}
	return n, nil
}

func (c *conns) closeAll() {
	c.cancel()
	c.mu.Lock()
	open := c.open
	c.open = nil
	c.mu.Unlock()
	for n := range open {
		n.Conn.Close()
	}
}

type conn struct {
	net.Conn
	of *conns
}

func (n *conn) Close() error {
	n.of.mu.Lock()
	delete(n.of.open, n)
	n.of.mu.Unlock()
	return n.Conn.Close()
}
