package login

import (
	"fmt"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// StatusError is a target's refusal of a login (RFC 7143, 11.13.5).
type StatusError struct{ Class, Detail byte }

// Code is class and detail as one number.
func (e *StatusError) Code() int { return int(e.Class)<<8 | int(e.Detail) }

func (e *StatusError) Error() string {
	what, _, _ := e.meaning()
	return fmt.Sprintf("the target refuses the login: %s (status %04x)", what, e.Code())
}

// meaning says what a status means, its kind, and what can be done.
func (e *StatusError) meaning() (what string, kind fault.Kind, hint string) {
	switch e.Code() {
	case 0x0201:
		return "authentication failed", fault.Forbidden, "compare the user and secret of chap with the account at the target; without chap, the target may ask for it"
	case 0x0202:
		return "this initiator is not allowed", fault.Forbidden, "allow the initiator's name, or this node's address, at the target (an ACL)"
	case 0x0203:
		return "there is no such target", fault.NotFound, "ask what targets there are: windlass iscsi discover HOST"
	case 0x0204:
		return "the target has been removed", fault.NotFound, ""
	case 0x0205:
		return "it does not speak our version", fault.Unsupported, ""
	case 0x0206:
		return "too many connections", fault.Unavailable, "the target's limit of sessions has been reached: end some, or raise it"
	case 0x0207:
		return "a parameter is missing", fault.Backend, ""
	case 0x0208:
		return "the session cannot be joined", fault.Backend, ""
	case 0x0209:
		return "it does not offer this type of session", fault.Unsupported, ""
	case 0x020a:
		return "the session does not exist", fault.Backend, ""
	case 0x020b:
		return "a request that is not allowed during a login", fault.Backend, ""
	case 0x0200:
		return "an error of the initiator that it does not name", fault.Backend, "the target's log may say more"
	case 0x0300:
		return "an error of the target that it does not name", fault.Backend, "the target's log may say more"
	case 0x0301:
		return "the target is not in service now", fault.Unavailable, "try again later"
	case 0x0302:
		return "the target is out of resources", fault.Unavailable, "try again later"
	}
	return "for a reason that no standard names", fault.Backend, "the target's log may say more"
}

// RedirectError says that the target is at another place.
type RedirectError struct {
	Portal    Portal
	Permanent bool
}

func (e *RedirectError) Error() string { return "the target has moved to " + e.Portal.Address() }

// refused makes an error of a status that is no success, and of the text that came with it.
func refused(class, detail byte, data []byte) error {
	if class == 1 {
		return redirect(detail, data)
	}
	e := &StatusError{class, detail}
	_, kind, hint := e.meaning()
	err := fault.New(kind, "%w", e)
	if hint != "" {
		err = fault.Hintf(err, "%s", hint)
	}
	return err
}

func redirect(detail byte, data []byte) error {
	t, err := ParseText(data)
	if err != nil {
		return fault.New(fault.Backend, "the target has moved, and where to cannot be read: %w", err)
	}
	to, _ := t.Get("TargetAddress")
	p, err := ParsePortal(to)
	if err != nil {
		return fault.New(fault.Backend, "the target has moved, and where to cannot be read: %w", err)
	}
	return fault.New(fault.Backend, "%w", &RedirectError{Portal: p, Permanent: detail == 2})
}
