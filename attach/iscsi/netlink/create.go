package netlink

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/u-root/iscsinl"
)

// Create makes a session, whose creator is this Kernel. When ctx ends in the meantime, the session is destroyed as soon as it is there.
func (k *Kernel) Create(ctx context.Context, commands, depth uint16) (*Session, error) {
	select {
	case <-k.turn:
	case <-ctx.Done():
		return nil, fmt.Errorf("make a session: the kernel is busy with another order for iSCSI: %w", ctx.Err())
	}
	type outcome struct {
		s   *Session
		err error
	}
	done := make(chan outcome) // unbuffered: what nobody takes is destroyed
	go func() {
		s, err := k.create(commands, depth)
		k.turn <- struct{}{}
		select {
		case done <- outcome{s, err}:
		case <-ctx.Done():
			if err == nil {
				_ = s.Destroy(context.WithoutCancel(ctx))
				s.Close()
			}
		}
	}()
	select {
	case o := <-done:
		return o.s, o.err
	case <-ctx.Done():
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
