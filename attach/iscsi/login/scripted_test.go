package login_test

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

// scripted is a Conn with a target that says what it was told to, each with another byte of flags.
type scripted struct {
	answers [][]byte
	flags   uint32
	statSN  uint32
}

func (*scripted) Send(context.Context, login.PDU) error { return nil }

func (c *scripted) Receive(context.Context) (login.PDU, error) {
	if len(c.answers) == 0 {
		return login.PDU{}, io.EOF
	}
	p := login.PDU{Data: c.answers[0]}
	p.Header[0], p.Header[1] = byte(login.OpLoginResponse), byte(c.flags)
	binary.BigEndian.PutUint32(p.Header[24:], c.statSN)
	c.answers, c.flags, c.statSN = c.answers[1:], c.flags>>8, c.statSN+1
	return p, nil
}
