package shim

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/unixsock"
)

// accept answers connections until the listener is closed.
func (c *container) accept() {
	for {
		conn, err := unixsock.Accept(c.listener)
		if err != nil {
			return
		}
		if uid, err := conn.PeerUID(); err != nil || uid != 0 {
			conn.Close()
			continue
		}
		go c.serve(conn)
	}
}

func (c *container) serve(conn *unixsock.Conn) {
	defer conn.Close()
	for {
		var req proto.Request
		files, err := conn.Receive(&req)
		if err != nil {
			return
		}
		more := c.answer(conn, &req, files)
		for _, f := range files {
			f.Close()
		}
		if !more {
			return
		}
	}
}

// answer handles one request; false ends the connection.
func (c *container) answer(conn *unixsock.Conn, req *proto.Request, files []*os.File) bool {
	var err error
	switch req.Op {
	case proto.OpStatus:
		if _, err = c.refresh(); err != nil {
			break
		}
		st := c.snapshot()
		return conn.Send(proto.Reply{Status: &st}) == nil
	case proto.OpWatch:
		c.stream(conn)
		return false
	case proto.OpStop:
		if err = c.cfg.Cgroup.Kill(); err == nil {
			c.stream(conn)
			return false
		}
	case proto.OpSignal:
		if err = c.signal(req.Signal); err == nil {
			return conn.Send(proto.Reply{}) == nil
		}
	case proto.OpExec:
		if err = c.exec(conn, req.Exec, files); err == nil {
			return false
		}
	default:
		err = fault.New(fault.Unsupported, "the shim of this container is older than the daemon and does not know %q", req.Op)
	}
	return conn.Send(proto.Reply{Error: proto.NewError(err)}) == nil
}

// stream sends the status and every change of it. It ends after Exited, or when the other side has gone.
func (c *container) stream(conn *unixsock.Conn) {
	if !c.enter() {
		return // the other side finds the last words on disk
	}
	defer c.writers.Done()
	left := make(chan struct{})
	go func() {
		defer close(left)
		var none proto.Request
		_, _ = conn.Receive(&none) // nothing more is said; this ends with the connection
	}()
	for {
		st, changed := c.watch()
		if conn.Send(proto.Reply{Status: &st}) != nil || st.State == proto.Exited {
			return
		}
		select {
		case <-changed:
		case <-left:
			return
		}
	}
}

func (c *container) signal(n int) error {
	if n < 1 || n > 64 {
		return fault.New(fault.Invalid, "there is no signal %d", n)
	}
	err := unix.PidfdSendSignal(c.pidfd, unix.Signal(n), nil, 0)
	if err == unix.ESRCH {
		return fault.New(fault.BadState, "send signal %d: the container has ended", n)
	}
	return err
}
