package login

import (
	"context"
	"encoding/binary"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// exchange sends a request and gives the whole answer to it, and whether the target has gone on to the next stage.
func (r *run) exchange(ctx context.Context, now, next stage, transit bool, t Text) (Text, bool, error) {
	var data []byte
	for {
		if r.exchanges++; r.exchanges > maxExchanges {
			return nil, false, fault.New(fault.Backend, "the target comes to no end with the login")
		}
		p, err := r.once(ctx, now, next, transit, t)
		if err != nil {
			return nil, false, err
		}
		if data = append(data, p.Data...); len(data) > maxText {
			return nil, false, fault.New(fault.Backend, "the target's answer is longer than a login can be")
		}
		if p.Header[1]&flagMore != 0 {
			t, transit = nil, false // an empty request asks for the rest
			continue
		}
		answer, err := ParseText(data)
		if err == nil {
			err = answer.once()
		}
		if err != nil {
			return nil, false, fault.New(fault.Backend, "the target's answer to the login cannot be read: %w", err)
		}
		return answer, p.Header[1]&flagFinal != 0, nil
	}
}

// once sends one PDU and receives one.
func (r *run) once(ctx context.Context, now, next stage, transit bool, t Text) (PDU, error) {
	req := PDU{Data: t.Bytes()}
	if len(req.Data) > loginData {
		return PDU{}, fault.New(fault.Invalid, "names and secrets are too long for a login")
	}
	h := &req.Header
	h[0] = byte(OpLoginRequest) | immediate
	h[1] = byte(now) << 2
	if transit {
		h[1] |= flagFinal | byte(next)
	}
	copy(h[8:14], r.ISID[:])
	binary.BigEndian.PutUint16(h[14:], r.tsih)
	req.setBE32(24, 1) // CmdSN of the first command; the kernel puts in its own
	req.setBE32(28, r.expStatSN)
	req.SetLength()
	if err := r.conn.Send(ctx, req); err != nil {
		return PDU{}, err
	}
	p, err := r.conn.Receive(ctx)
	if err != nil {
		return PDU{}, err
	}
	return p, r.take(p, now, next, transit)
}

// take checks an answer and keeps its numbers.
func (r *run) take(p PDU, now, next stage, transit bool) error {
	if p.Opcode() == OpReject {
		return fault.New(fault.Backend, "the target rejects our login (reason %#02x)", p.Header[2])
	}
	if p.Opcode() != OpLoginResponse {
		return fault.New(fault.Backend, "the target answers a login with a PDU %#02x", byte(p.Opcode()))
	}
	if class := p.Header[36]; class != 0 {
		return refused(class, p.Header[37], p.Data)
	}
	if p.Header[3] != 0 {
		return fault.New(fault.Unsupported, "the target speaks version %d of iSCSI, we version 0", p.Header[3])
	}
	flags := p.Header[1]
	ahead := flags&flagFinal != 0
	switch {
	case stage(flags>>2&3) != now:
		return fault.New(fault.Backend, "the target answers in stage %d of the login, we are in %d", flags>>2&3, now)
	case ahead && flags&flagMore != 0:
		return fault.New(fault.Backend, "the target goes on in the login before its answer is complete")
	case ahead && (!transit || stage(flags&3) != next):
		return fault.New(fault.Backend, "the target goes on to stage %d of the login, which nobody asked for", flags&3)
	}
	statSN := p.be32(24)
	if !r.first && statSN != r.expStatSN {
		return fault.New(fault.Backend, "the target's answer has the number %d, %d was due", statSN, r.expStatSN)
	}
	r.first = false
	r.expStatSN = statSN + 1
	r.expCmdSN = p.be32(28)
	if tsih := binary.BigEndian.Uint16(p.Header[14:]); ahead && next == fullFeature {
		r.tsih = tsih
	}
	return nil
}
