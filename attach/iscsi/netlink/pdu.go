package netlink

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/u-root/iscsinl"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// How often a PDU is sent again that the kernel was not ready for, and how long after.
const readyTries, readyPause = 50, 2 * time.Millisecond

// Send sends a PDU on the connection. The kernel puts in the initiator's tag and the number of the command.
//
// The kernel hands over the answer to one request of a login a moment before it is ready for the next, which it refuses then (EPERM).
func (s *Session) Send(ctx context.Context, p login.PDU) error {
	p.SetLength()
	payload := append(append(make([]byte, 0, login.HeaderLen+len(p.Data)), p.Header[:]...), p.Data...)
	for try := 0; ; try++ {
		err := s.order(ctx, "send a PDU in", iscsinl.ISCSI_UEVENT_SEND_PDU, payload, connection, login.HeaderLen, uint32(len(p.Data)))
		if !errors.Is(err, unix.EPERM) || try == readyTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(readyPause):
		}
	}
}

// Receive gives the next PDU that the kernel does not keep to itself.
func (s *Session) Receive(ctx context.Context) (login.PDU, error) {
	select {
	case p := <-s.pdus: // what came before the connection was lost counts
		return p, nil
	default:
	}
	select {
	case p := <-s.pdus:
		return p, nil
	case why := <-s.lost:
		select {
		case p := <-s.pdus:
			s.lose(why)
			return p, nil
		default:
		}
		err := fault.New(fault.Backend, "%s", why)
		return login.PDU{}, fault.Hintf(err, "the target's log may say why; does an iSCSI target listen there?")
	case <-ctx.Done():
		return login.PDU{}, login.Silent(ctx)
	case <-s.kernel.closed:
		return login.PDU{}, ErrClosed
	}
}

// PDUs gives what Receive does, for those who wait for something else as well.
func (s *Session) PDUs() <-chan login.PDU { return s.pdus }

// Ping asks the target for a sign of life and waits for it. Nobody else may receive meanwhile.
func (s *Session) Ping(ctx context.Context) error {
	if err := s.Send(ctx, login.PingRequest(0)); err != nil {
		return err
	}
	for {
		p, err := s.Receive(ctx)
		if err != nil || p.Opcode() == login.OpNopIn {
			return err
		}
	}
}
