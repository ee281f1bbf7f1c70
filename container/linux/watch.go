package linux

import (
	"context"
	"time"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/container/shim/proto"
	"github.com/windlass-hpc/windlass/internal/unixsock"
)

// Watch sends the status at once and at every change.
func (r *Runtime) Watch(ctx context.Context, id container.ID) (<-chan container.Status, error) {
	conn, err := r.dial(id)
	if err != nil && err != errNoShim {
		return nil, err
	}
	ch := make(chan container.Status, 1)
	go func() {
		defer close(ch)
		if conn == nil || !r.follow(ctx, conn, ch) {
			r.sendFinal(ctx, id, ch)
		}
	}()
	return ch, nil
}

// follow passes on what the shim says; false when it broke off before the end.
func (r *Runtime) follow(ctx context.Context, conn *unixsock.Conn, ch chan<- container.Status) bool {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err := conn.Send(proto.Request{Version: proto.Version, Op: proto.OpWatch})
	for err == nil {
		var reply proto.Reply
		if _, err = conn.Receive(&reply); err != nil || reply.Status == nil {
			break
		}
		select {
		case ch <- toStatus(reply.Status):
		case <-ctx.Done():
		}
		if reply.Status.State == proto.Exited {
			return true
		}
	}
	return ctx.Err() != nil
}

// sendFinal sends how things stand when the shim is not there: Exited or Absent. A container that has been started again in
// the meantime is followed on.
func (r *Runtime) sendFinal(ctx context.Context, id container.ID, ch chan<- container.Status) {
	for ctx.Err() == nil {
		st, err := r.Status(ctx, id)
		if err != nil {
			pause(ctx, 100*time.Millisecond) // such as a shim that does not answer: nothing tells when it will
			continue
		}
		if st.State == container.Exited || st.State == container.Absent {
			select {
			case ch <- st:
			case <-ctx.Done():
			}
			return
		}
		if conn, err := r.dial(id); err == nil && r.follow(ctx, conn, ch) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
