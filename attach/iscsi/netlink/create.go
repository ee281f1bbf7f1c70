package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/u-root/iscsinl"
)

// giveUp is how long after the end of a context Create waits for the kernel, which makes a session in milliseconds unless it is stuck.
const giveUp = 3 * time.Second

// Create makes a session, whose creator is this Kernel. When ctx ends while the kernel makes it, it is given all the same, so that its
// taker can see to it that nothing is left; unless the kernel is stuck: then what comes in the end is destroyed. When Create fails, none
// is called as soon as it is sure that there is no session. ErrNoAnswer: there may be one.
func (k *Kernel) Create(ctx context.Context, commands, depth uint16, none func()) (*Session, error) {
	select {
	case <-k.turn:
	case <-ctx.Done():
		none()
		return nil, fmt.Errorf("make a session: the kernel is busy with another order for iSCSI: %w", ctx.Err())
	}
	type outcome struct {
		s   *Session
		err error
	}
	patient, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(giveUp, stop) })()
	done := make(chan outcome) // unbuffered: it is taken, or it is not
	go func() {
		s, err := k.create(commands, depth)
		k.turn <- struct{}{}
		if err != nil && !errors.Is(err, ErrNoAnswer) {
			none()
		}
		select {
		case done <- outcome{s, err}:
		case <-patient.Done():
			if err == nil {
				_ = s.Destroy(context.WithoutCancel(ctx))
				s.Close()
				none()
			}
		}
	}()
	select {
	case o := <-done:
		return o.s, o.err
	case <-patient.Done():
		return nil, fmt.Errorf("make a session: the kernel has not answered: %w", ctx.Err())
	}
}

func (k *Kernel) create(commands, depth uint16) (*Session, error) {
	var numbers [4]byte
	binary.NativeEndian.PutUint16(numbers[:], commands)
	binary.NativeEndian.PutUint16(numbers[2:], depth)
	const firstCmdSN = 1
	e, err := k.exchange(request(iscsinl.ISCSI_UEVENT_CREATE_SESSION, k.handle, nil, firstCmdSN, binary.NativeEndian.Uint32(numbers[:])))
	if err != nil {
		return nil, fmt.Errorf("make a session: %w", err)
	}
	return k.Listen(e.answer32(0), e.answer32(1)), nil
}
