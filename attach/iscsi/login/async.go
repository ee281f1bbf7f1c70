package login

import "fmt"

// Events that a target tells of by itself (RFC 7143, 11.9.1). All others, such as those of its makers, are nothing that we could act on.
const (
	asyncLogout    = 1
	asyncDrop      = 2
	asyncDropAll   = 3
	asyncNegotiate = 4
)

// Async says what an asynchronous message wants: why the connection is to be given up for another, "" when it is not; and whether the
// target waits for us to log out before.
func (p *PDU) Async() (why string, logout bool) {
	if p.Opcode() != OpAsync {
		return "", false
	}
	switch event := p.Header[36]; event {
	case asyncLogout:
		return "the target asks us to log out", true
	case asyncDrop, asyncDropAll:
		return fmt.Sprintf("the target says that it drops the connection (event %d)", event), false
	case asyncNegotiate:
		return "the target asks to agree on parameters anew", false
	}
	return "", false
}
