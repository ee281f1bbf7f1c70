package netlink

import (
	"bytes"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/u-root/iscsinl"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

// readAgain is how long after a failure the reader reads again.
const readAgain = 100 * time.Millisecond

// read takes in everything until the socket is closed.
func (k *Kernel) read() {
	defer close(k.closed)
	b := make([]byte, datagram)
	for {
		n, fromKernel, err := k.sock.Receive(b)
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			k.resync()
		case err != nil: // the kernel may be out of memory, and not for ever
			k.resync()
			time.Sleep(readAgain)
		case fromKernel: // and nobody who makes believe
			k.take(bytes.Clone(b[:n]))
		}
	}
}

// take hands on what one datagram holds. It never waits.
func (k *Kernel) take(b []byte) {
	all, err := parse(b)
	if err != nil {
		k.resync()
	}
	for _, e := range all {
		if e.reply {
			k.answered(e)
			continue
		}
		k.dispatch(e)
	}
}

// answered hands on an answer. What lies there that nobody has taken is older, and of a request that was given up.
func (k *Kernel) answered(e event) {
	for {
		select {
		case k.replies <- e:
			return
		default:
		}
		select {
		case <-k.replies:
		default:
		}
	}
}

func (k *Kernel) dispatch(e event) {
	sid := e.answer32(0)
	if e.kind == keventDestroySession {
		sid = e.answer32(1) // behind the host's number
	}
	k.mu.Lock()
	s := k.listeners[sid]
	k.mu.Unlock()
	if s == nil {
		return
	}
	switch e.kind {
	case iscsinl.ISCSI_KEVENT_RECV_PDU:
		p, err := login.ParsePDU(e.payload())
		if err != nil {
			s.lose("the kernel hands over what is no PDU: " + err.Error())
			return
		}
		s.hear(p)
	case iscsinl.ISCSI_KEVENT_CONN_ERROR:
		s.lose(reason(iscsinl.IscsiErr(e.answer32(2))))
	case keventUnbindSession, keventDestroySession:
		s.wake()
	}
}

// hear keeps a PDU for those who receive. What a target says by itself as often as it likes is no reason to give it up.
func (s *Session) hear(p login.PDU) {
	if why, _ := p.Async(); p.Opcode() == login.OpAsync && why == "" {
		return
	}
	select {
	case s.pdus <- p:
	default:
		if p.Opcode() != login.OpReject {
			s.lose("more PDUs than anybody waits for")
		}
	}
}

// resync is for when events were lost, since there were more than the socket holds: everybody looks for himself.
func (k *Kernel) resync() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.listeners {
		s.wake()
	}
}

// reason says why a connection was lost.
func reason(err iscsinl.IscsiErr) string {
	switch err {
	case iscsinl.ISCSI_ERR_TCP_CONN_CLOSE:
		return "the target has closed the connection"
	case iscsinl.ISCSI_ERR_NOP_TIMEDOUT:
		return "the target does not answer pings"
	case iscsinl.ISCSI_ERR_HDR_DGST, iscsinl.ISCSI_ERR_DATA_DGST:
		return "a checksum is wrong (" + err.String() + ")"
	case iscsinl.ISCSI_ERR_XMIT_FAILED:
		return "the target takes nothing any more"
	case iscsinl.ISCSI_ERR_SCSI_EH_SESSION_RST:
		return "a command was not answered, so the kernel starts anew"
	}
	return "the connection failed (" + err.String() + ")"
}
