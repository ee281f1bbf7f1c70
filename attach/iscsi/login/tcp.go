package login

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// TCP is a Conn that is ours, without digests.
type TCP struct {
	conn *net.TCPConn
	in   *bufio.Reader
}

// Dial connects to HOST:PORT. Of a name all addresses are tried in turn.
func Dial(ctx context.Context, address string) (*TCP, error) {
	conn, err := Connect(ctx, address)
	if err != nil {
		return nil, err
	}
	return &TCP{conn, bufio.NewReader(conn)}, nil
}

// Connect is Dial where the connection is wanted itself. Errors have a kind and a hint.
func Connect(ctx context.Context, address string) (*net.TCPConn, error) {
	d := net.Dialer{FallbackDelay: -1} // in turn: a session wants one connection
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, unreachable(ctx, address, err)
	}
	return conn.(*net.TCPConn), nil
}

// unreachable says why there is no connection.
func unreachable(ctx context.Context, address string, err error) error {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("connect to %s: %w", address, ctx.Err())
	case errors.As(err, &dns) && dns.IsNotFound:
		err := fault.New(fault.NotFound, "connect to %s: nobody knows the host %s", address, dns.Name)
		return fault.Hintf(err, "check the name, and this node's resolver (/etc/resolv.conf, /etc/hosts)")
	case errors.As(err, &dns):
		err := fault.New(fault.Unavailable, "connect to %s: the name %s cannot be resolved: %s", address, dns.Name, dns.Err)
		return fault.Hintf(err, "check this node's resolver (/etc/resolv.conf), or give an address")
	case errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &op) && op.Timeout():
		err := fault.New(fault.Timeout, "connect to %s: nobody answers", address)
		return fault.Hintf(err, "check that the host is up and that no firewall drops what comes to this port")
	}
	cause := err
	if errors.As(err, &op) {
		cause = op.Err
	}
	var sys *os.SyscallError
	if errors.As(cause, &sys) {
		cause = sys.Err
	}
	err = fault.New(fault.Backend, "connect to %s: %w", address, cause)
	return fault.Hintf(err, "check host and port, and that the target's service runs there")
}

// Close closes the connection.
func (c *TCP) Close() error { return c.conn.Close() }

// Send sends a PDU.
func (c *TCP) Send(ctx context.Context, p PDU) error {
	stop := c.until(ctx)
	defer stop()
	return c.lost(ctx, writePDU(c.conn, p))
}

// Receive receives a PDU.
func (c *TCP) Receive(ctx context.Context) (PDU, error) {
	stop := c.until(ctx)
	defer stop()
	p, err := readPDU(c.in)
	return p, c.lost(ctx, err)
}

// until has what is done on the connection fail when ctx ends, up to the call of what it gives.
func (c *TCP) until(ctx context.Context) (stop func() bool) {
	_ = c.conn.SetDeadline(time.Time{})
	return context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
}

// lost gives an error of the connection its kind.
func (c *TCP) lost(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return Silent(ctx)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return Closed()
	}
	return fault.New(fault.Backend, "speak with the target: %w", err)
}

// Closed is the error for a target that closes the connection in the middle.
func Closed() error {
	err := fault.New(fault.Backend, "the target has closed the connection")
	return fault.Hintf(err, "the target's log may say why; does an iSCSI target listen there?")
}

// Silent is the error for a target that does not answer before ctx ends.
func Silent(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("wait for the target's answer: %w", ctx.Err())
	}
	err := fault.New(fault.Timeout, "the target does not answer: %w", ctx.Err())
	return fault.Hintf(err, "does an iSCSI target listen there? login_timeout says how long a login may take")
}
