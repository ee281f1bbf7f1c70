package login_test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

// fake is the other end of a connection, for what a real target never does.
type fake struct {
	t      *testing.T
	conn   net.Conn
	statSN uint32
	last   login.PDU
}

// fakeTarget listens until the test ends and serves each connection by serve; what serve does not read is waited for.
func fakeTarget(t *testing.T, serve func(*fake)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			serve(&fake{t: t, conn: c, statSN: 7})
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// request reads the next PDU and gives its text; nil at the end.
func (f *fake) request() login.Text {
	var h [login.HeaderLen]byte
	if _, err := io.ReadFull(f.conn, h[:]); err != nil {
		return nil
	}
	n := int(h[5])<<16 | int(h[6])<<8 | int(h[7])
	data := make([]byte, (n+3)&^3)
	if _, err := io.ReadFull(f.conn, data); err != nil {
		return nil
	}
	f.last = login.PDU{Header: h, Data: data[:n]}
	text, err := login.ParseText(f.last.Data)
	if err != nil {
		f.t.Errorf("we sent %q: %v", data, err)
	}
	return append(login.Text{}, text...)
}

// answer sends a login response with the flags and pairs such as "A=b".
func (f *fake) answer(flags byte, pairs ...string) { f.status(0, 0, flags, pairs...) }

func (f *fake) status(class, detail, flags byte, pairs ...string) {
	f.login(class, detail, flags, strings.Join(append(pairs, ""), "\x00"))
}

// raw is answer with text that need not consist of pairs.
func (f *fake) raw(flags byte, text string) { f.login(0, 0, flags, text) }

func (f *fake) login(class, detail, flags byte, text string) {
	p := login.PDU{Data: []byte(text)}
	p.Header[0], p.Header[1], p.Header[36], p.Header[37] = byte(login.OpLoginResponse), flags, class, detail
	binary.BigEndian.PutUint16(p.Header[14:], 1)
	copy(p.Header[16:20], f.last.Header[16:20])
	binary.BigEndian.PutUint32(p.Header[24:], f.statSN)
	f.statSN++
	f.send(p)
}

// text answers a text request; with more it is much and said to go on.
func (f *fake) text(text string, more bool) {
	p := login.PDU{Data: []byte(text)}
	p.Header[0], p.Header[1] = byte(login.OpTextResponse), 0x80
	if more {
		p.Header[1] = 0x40
		p.Data = []byte(strings.Repeat("TargetName="+plain+"\x00", 500))
	}
	copy(p.Header[16:20], f.last.Header[16:20])
	binary.BigEndian.PutUint32(p.Header[20:], 1)
	binary.BigEndian.PutUint32(p.Header[24:], f.statSN)
	f.statSN++
	f.send(p)
}

func (f *fake) send(p login.PDU) {
	p.SetLength()
	b := append(p.Header[:], p.Data...)
	_, _ = f.conn.Write(append(b, make([]byte, -len(p.Data)&3)...))
}

// The flags of login responses.
const (
	toOperational = 0x80 | 1        // from security
	stay          = 0               // in security
	toFull        = 0x80 | 1<<2 | 3 // from operational
	stayOper      = 1 << 2          // in operational
	more          = 0x40            // the text goes on
)
