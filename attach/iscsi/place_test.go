package iscsi

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// host answers logins for discovery: proof with a status, all others as it is told.
type host struct {
	proof  uint16 // status of logins that offer CHAP; 0: it is ignored, and none is given
	tells  string // answer to SendTargets
	mu     sync.Mutex
	logins []string // the methods that each offered
}

func (h *host) listen(t *testing.T) login.Portal {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.serve(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return login.Portal{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
}

func (h *host) serve(c net.Conn) {
	for n := uint32(1); ; n++ {
		var p login.PDU
		if _, err := io.ReadFull(c, p.Header[:]); err != nil {
			return
		}
		size := int(p.Header[5])<<16 | int(p.Header[6])<<8 | int(p.Header[7])
		data := make([]byte, (size+3)&^3)
		if _, err := io.ReadFull(c, data); err != nil {
			return
		}
		text, _ := login.ParseText(data[:size])
		a := login.PDU{}
		copy(a.Header[16:20], p.Header[16:20])
		binary.BigEndian.PutUint32(a.Header[24:], n)
		switch p.Opcode() {
		case login.OpLoginRequest:
			a.Header[0], a.Header[1] = byte(login.OpLoginResponse), p.Header[1]
			if method, first := text.Get("AuthMethod"); first {
				h.mu.Lock()
				h.logins = append(h.logins, method)
				h.mu.Unlock()
				a.Data = []byte("AuthMethod=None\x00")
				if strings.Contains(method, "CHAP") {
					binary.BigEndian.PutUint16(a.Header[36:], h.proof)
				}
			}
		case login.OpTextRequest:
			a.Header[0], a.Header[1], a.Data = byte(login.OpTextResponse), 0x80, []byte(h.tells)
			binary.BigEndian.PutUint32(a.Header[20:], 0xffffffff)
		default:
			return
		}
		a.SetLength()
		out := append(a.Header[:], a.Data...)
		if _, err := c.Write(append(out, make([]byte, -len(a.Data)&3)...)); err != nil {
			return
		}
	}
}

func TestDiscoveryIsNotDowngraded(t *testing.T) {
	const target = "iqn.2026-01.org.example:disk"
	chap, mutual := &login.Secret{User: "node", Secret: "secretsecret12"}, &login.Secret{User: "storage", Secret: "storagesecret1"}
	for what, tt := range map[string]struct {
		proof  uint16
		auth   login.Auth
		logins int
		works  bool
	}{
		"the host needs none":                    {0, login.Auth{CHAP: chap}, 1, true},
		"the host knows no such user":            {0x0201, login.Auth{CHAP: chap}, 2, true},
		"the host lets nobody in":                {0x0202, login.Auth{CHAP: chap}, 1, false},
		"the host is to prove itself":            {0x0201, login.Auth{CHAP: chap, Mutual: mutual}, 1, false},
		"the host is to prove itself and is not": {0, login.Auth{CHAP: chap, Mutual: mutual}, 1, false},
	} {
		t.Run(what, func(t *testing.T) {
			h := &host{proof: tt.proof, tells: "TargetName=" + target + "\x00TargetAddress=192.0.2.1:3260,1\x00"}
			w := wish(valid())
			w.target, w.discover, w.place = target, true, h.listen(t)
			l := &link{wanted: w}
			places, err := l.places(t.Context(), tt.auth)
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.logins) != tt.logins || (err == nil) != tt.works {
				t.Errorf("%v, %v after logins with %q", places, err, h.logins)
			}
			if !tt.works && (!fault.Is(err, fault.Forbidden) || fault.HintOf(err) == "") {
				t.Errorf("%v (%s), hint %q", err, fault.KindOf(err), fault.HintOf(err))
			}
		})
	}
}

func TestPlacesAreFew(t *testing.T) {
	w := wish(valid())
	var tells strings.Builder
	fmt.Fprintf(&tells, "TargetName=%s\x00", w.target)
	for i := range 200 {
		fmt.Fprintf(&tells, "TargetAddress=192.0.2.%d:3260,1\x00", i/2)
	}
	h := &host{tells: tells.String()}
	w.discover, w.place = true, h.listen(t)
	places, err := (&link{wanted: w}).places(t.Context(), login.Auth{})
	if err != nil || len(places) != 16 || places[0].Host != "192.0.2.0" || places[1].Host != "192.0.2.1" {
		t.Errorf("%d places, %v, %v", len(places), places, err)
	}
}

func TestManyErrorsAreToldShortly(t *testing.T) {
	var failed []error
	for i := range 16 {
		failed = append(failed, fault.New(fault.Backend, "connect to 192.0.2.%d: connection refused", i))
	}
	failed[9] = fault.New(fault.NotFound, "%w", &login.StatusError{Class: 2, Detail: 3})
	err := oneOf(failed)
	if strings.Count(err.Error(), "connection refused") != 3 || !strings.Contains(err.Error(), "no such target") || !strings.HasSuffix(err.Error(), "; and 12 more") || !strings.HasPrefix(err.Error(), "16 addresses") {
		t.Error(err)
	}
}
