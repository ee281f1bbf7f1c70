package iscsi

import (
	"context"
	"errors"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

// hear takes what the target says by itself, or in answer to a ping. All else that comes is for nobody.
func (k *keeper) hear(ctx context.Context, p login.PDU) {
	if p.Opcode() == login.OpNopIn {
		k.answered(nil)
		return
	}
	why, logout := p.Async()
	if why == "" {
		return
	}
	if logout {
		k.link.driver.logOut(ctx, k.link.session)
	}
	k.recover(ctx, why)
}

// ping asks the target for a sign of life and waits for it. While the session is lost there is none.
func (k *keeper) ping(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case k.pings <- answer:
	case <-ctx.Done():
		return ctx.Err()
	case <-k.done:
		return errors.New("nobody keeps the session")
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-k.done:
		return errors.New("nobody keeps the session any more")
	}
}

// send sends a ping for one who waits for its answer.
func (k *keeper) send(ctx context.Context, to chan<- error) {
	ctx, cancel := context.WithTimeout(ctx, answerWait)
	defer cancel()
	if err := k.link.session.Send(ctx, login.PingRequest(0)); err != nil {
		to <- err
		return
	}
	k.asked = append(k.asked, to)
}

// answered tells all who wait for the answer to a ping. A ping that was given up before it came may make it that of an earlier one, which
// is a sign of life as well.
func (k *keeper) answered(err error) {
	for _, to := range k.asked {
		to <- err
	}
	k.asked = nil
}
