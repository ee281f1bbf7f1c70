// Package login speaks iSCSI as far as a login and what needs no kernel go (RFC 7143): it proves who we are, agrees on parameters, asks a
// target's host what targets there are, and asks a target what LUNs it has.
//
// It believes nothing that the other side says beyond bounds, and it never shows a secret. It owns a connection only while a function
// runs; the login of a session that the kernel is to have goes over a Conn that is the kernel's.
package login

import (
	"context"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Conn carries PDUs to a target and back. One login uses it at a time.
type Conn interface {
	Send(ctx context.Context, p PDU) error
	Receive(ctx context.Context) (PDU, error)
}

// Config says who logs in where.
type Config struct {
	Initiator string
	Target    string  // "": a session for discovery
	ISID      [6]byte // with Initiator it names the session; logging in with it again puts an end to the one before
	Auth      Auth
	Header    Digest // on PDU headers
	Data      Digest // on PDU data
	MaxRecv   int    // bytes of data in a PDU that we take
}

// Result is what was agreed.
type Result struct {
	Params
	TSIH      uint16
	ExpStatSN uint32 // the number that the target's next status has
	ExpCmdSN  uint32
}

// stage is a phase of a login, as it stands in a header.
type stage byte

const (
	security    stage = 0
	operational stage = 1
	fullFeature stage = 3
)

// maxExchanges bounds the requests of one login; three to five are usual.
const maxExchanges = 32

// run is one login.
type run struct {
	Config
	conn      Conn
	tsih      uint16
	expStatSN uint32
	expCmdSN  uint32
	first     bool // nothing has come back yet
	exchanges int
}

// Login logs in over conn. A *RedirectError says that the target is elsewhere; a *StatusError is what the target answers when it refuses,
// with a kind (internal/fault). After an error the connection is of no use.
func Login(ctx context.Context, conn Conn, cfg Config) (Result, error) {
	if err := cfg.Auth.check(); err != nil {
		return Result{}, err
	}
	r := &run{Config: cfg, conn: conn, first: true}
	if err := r.secure(ctx); err != nil {
		return Result{}, err
	}
	params, err := r.operate(ctx)
	if err != nil {
		return Result{}, err
	}
	return Result{Params: params, TSIH: r.tsih, ExpStatSN: r.expStatSN, ExpCmdSN: r.expCmdSN}, nil
}

// secure is the stage in which both sides prove who they are.
func (r *run) secure(ctx context.Context) error {
	t := Text{{"InitiatorName", r.Initiator}}
	if r.Target == "" {
		t = append(t, Pair{"SessionType", "Discovery"})
	} else {
		t = append(t, Pair{"TargetName", r.Target}, Pair{"SessionType", "Normal"})
	}
	switch {
	case r.Auth.CHAP == nil:
		t = append(t, Pair{"AuthMethod", "None"})
	case r.Auth.Mutual == nil:
		t = append(t, Pair{"AuthMethod", "CHAP,None"}) // a target that asks for no proof needs none
	default:
		t = append(t, Pair{"AuthMethod", "CHAP"})
	}
	answer, moved, err := r.exchange(ctx, security, operational, r.Auth.CHAP == nil, t)
	if err != nil {
		return err
	}
	method, said := answer.Get("AuthMethod")
	switch {
	case method == "CHAP" && r.Auth.CHAP != nil && !moved:
		return r.prove(ctx)
	case (method == "None" || !said) && r.Auth.Mutual == nil:
		return r.leave(ctx, moved)
	case method == "CHAP":
		err := fault.New(fault.Forbidden, "the target asks for CHAP")
		return fault.Hintf(err, "give a user and its secret as chap")
	}
	return fault.New(fault.Forbidden, "the target wants the authentication %.40q, which was not offered", method)
}

// leave goes on to the next stage where the target has not gone there at the first request.
func (r *run) leave(ctx context.Context, moved bool) error {
	for !moved {
		var err error
		if _, moved, err = r.exchange(ctx, security, operational, true, nil); err != nil {
			return err
		}
	}
	return nil
}

// prove is CHAP.
func (r *run) prove(ctx context.Context) error {
	c := chap{auth: r.Auth}
	challenge, moved, err := r.exchange(ctx, security, operational, false, Text{{"CHAP_A", chapOffer}})
	if err != nil {
		return err
	}
	if moved {
		return fault.New(fault.Backend, "the target goes on without CHAP though it asked for it")
	}
	answer, err := c.answer(challenge)
	if err != nil {
		return err
	}
	verdict, moved, err := r.exchange(ctx, security, operational, true, answer)
	if err != nil {
		return err
	}
	if err := c.verify(verdict); err != nil {
		return err
	}
	return r.leave(ctx, moved)
}

// operate is the stage in which both sides agree on parameters.
func (r *run) operate(ctx context.Context) (Params, error) {
	var all Text
	t := r.offer()
	offered := t
	for {
		answer, moved, err := r.exchange(ctx, operational, fullFeature, true, t)
		if err != nil {
			return Params{}, err
		}
		if all = append(all, answer...); len(all) > maxPairs {
			return Params{}, fault.New(fault.Backend, "the target sends more parameters than there are")
		}
		if moved {
			return r.settle(offered, all)
		}
		t = decline(offered, answer)
	}
}
