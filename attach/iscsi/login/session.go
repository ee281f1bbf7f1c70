package login

import (
	"context"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// logoutWait is how long a session of ours waits to be let go.
const logoutWait = 2 * time.Second

// session is a session that is ours, after its login.
type session struct {
	conn      *TCP
	expStatSN uint32
	cmdSN     uint32
	tag       uint32
}

// open logs in at address, HOST:PORT, or where the target is said to be.
func open(ctx context.Context, address string, cfg Config) (*session, error) {
	cfg.Header, cfg.Data, cfg.MaxRecv = NoDigest, NoDigest, declared
	for range MaxRedirects {
		conn, err := Dial(ctx, address)
		if err != nil {
			return nil, err
		}
		r, err := Login(ctx, conn, cfg)
		if err == nil {
			return &session{conn: conn, expStatSN: r.ExpStatSN, cmdSN: 1}, nil
		}
		conn.Close()
		to, moved := Redirected(err)
		if !moved {
			return nil, err
		}
		address = to.Address()
	}
	return nil, TooFar()
}

// receive gives the next PDU that is no ping and no event, and keeps the number of its status.
func (s *session) receive(ctx context.Context) (PDU, error) {
	for {
		p, err := s.conn.Receive(ctx)
		if err != nil {
			return PDU{}, err
		}
		switch p.Opcode() {
		case OpNopIn:
			if err := s.pong(ctx, p); err != nil {
				return PDU{}, err
			}
			continue
		case OpAsync:
			continue
		case OpReject:
			return PDU{}, fault.New(fault.Backend, "the target rejects our request (reason %#02x)", p.Header[2])
		}
		return p, nil
	}
}

// pong answers a ping.
func (s *session) pong(ctx context.Context, ping PDU) error {
	if ping.be32(20) == reservedTag {
		return nil
	}
	p := PDU{Data: ping.Data}
	p.Header[0], p.Header[1] = byte(OpNopOut)|immediate, flagFinal
	copy(p.Header[8:16], ping.Header[8:16])
	p.setBE32(16, reservedTag)
	copy(p.Header[20:24], ping.Header[20:24])
	p.setBE32(24, s.cmdSN)
	p.setBE32(28, s.expStatSN)
	return s.conn.Send(ctx, p)
}

// text asks and gives the whole answer.
func (s *session) text(ctx context.Context, t Text) (Text, error) {
	var data []byte
	transfer := uint32(reservedTag)
	s.tag++
	for range maxText / minSegment {
		p := PDU{Data: t.Bytes()}
		p.Header[0], p.Header[1] = byte(OpTextRequest)|immediate, flagFinal
		p.setBE32(16, s.tag)
		p.setBE32(20, transfer)
		p.setBE32(24, s.cmdSN)
		p.setBE32(28, s.expStatSN)
		if err := s.conn.Send(ctx, p); err != nil {
			return nil, err
		}
		answer, err := s.receive(ctx)
		if err != nil {
			return nil, err
		}
		if answer.Opcode() != OpTextResponse || answer.be32(16) != s.tag {
			return nil, fault.New(fault.Backend, "the target answers a question with a PDU %#02x", byte(answer.Opcode()))
		}
		s.expStatSN = answer.be32(24) + 1
		if data = append(data, answer.Data...); len(data) > maxText {
			break
		}
		if answer.Header[1]&flagFinal != 0 {
			all, err := ParseText(data)
			if err != nil {
				return nil, fault.New(fault.Backend, "the target's answer cannot be read: %w", err)
			}
			return all, nil
		}
		t, transfer = nil, answer.be32(20) // an empty request asks for the rest
	}
	return nil, fault.New(fault.Backend, "the target's answer comes to no end")
}

// logout ends the session. Whether it is heard does not matter: the connection is closed then.
func (s *session) logout(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, logoutWait)
	defer cancel()
	s.tag++
	p := LogoutRequest(s.expStatSN)
	p.setBE32(16, s.tag)
	p.setBE32(24, s.cmdSN)
	if s.conn.Send(ctx, p) == nil {
		_, _ = s.receive(ctx)
	}
}

// LogoutRequest asks to end the session.
func LogoutRequest(expStatSN uint32) PDU {
	var p PDU
	p.Header[0], p.Header[1] = byte(OpLogoutRequest)|immediate, flagFinal // reason 0: the session
	p.setBE32(28, expStatSN)
	return p
}

// PingRequest asks the target for a sign of life.
func PingRequest(expStatSN uint32) PDU {
	var p PDU
	p.Header[0], p.Header[1] = byte(OpNopOut)|immediate, flagFinal
	p.setBE32(20, reservedTag)
	p.setBE32(28, expStatSN)
	return p
}
