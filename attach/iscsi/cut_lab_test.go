//go:build lab

package iscsi_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
	"github.com/windlass-hpc/windlass/test/lab/control"
)

// cutter passes connections on to the target, and cuts each after so many bytes from it; or, with hang, passes nothing on any more.
func cutter(t *testing.T, bytes int64, hang bool) int64 {
	t.Helper()
	return serve(t, func(c net.Conn) {
		there, err := net.Dial("tcp", control.Portal)
		if err != nil {
			t.Error(err)
			return
		}
		defer there.Close()
		go func() { _, _ = io.Copy(there, c); there.Close() }()
		_, _ = io.CopyN(c, there, bytes)
		if hang {
			_, _ = io.Copy(io.Discard, there)
		}
	})
}

// serve listens until the test ends, and gives the port.
func serve(t *testing.T, each func(net.Conn)) int64 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); each(c) }()
		}
	}()
	return int64(l.Addr().(*net.TCPAddr).Port)
}

func through(s *models.Attach, port int64) *models.Attach {
	part, host := *s.Iscsi, "127.0.0.1"
	part.Host, part.Port, part.LoginTimeout = &host, port, 2
	return &models.Attach{Kind: s.Kind, Iscsi: &part}
}

// TestTargetThatGoesInTheMiddle cuts the connection during the login, during the scan, and later.
func TestTargetThatGoesInTheMiddle(t *testing.T) {
	s := export(t, bytes.NewReader(pattern(1<<20)), nil)
	d := newDriver(t)
	kinds := map[fault.Kind]int{}
	for _, hang := range []bool{false, true} {
		for _, n := range []int64{0, 100, 200, 300, 400, 500, 700, 900, 1100, 1300, 2000, 4000} {
			if hang && n > 300 && n != 700 && n != 1300 {
				continue // each takes as long as pings do
			}
			began := time.Now()
			dev, err := d.Attach(t.Context(), 1, through(s, cutter(t, n, hang)), attach.Base{Dir: "/"})
			if err == nil {
				must(t, d.Detach(t.Context(), dev, true))
			} else {
				t.Logf("%d bytes, then hang %v: %v (%s, %s)", n, hang, err, fault.KindOf(err), time.Since(began).Round(time.Millisecond))
				kinds[fault.KindOf(err)]++
			}
			nothingLeft(t)
		}
	}
	if kinds[fault.Internal] > 0 || kinds[fault.Backend] == 0 || kinds[fault.Timeout] == 0 {
		t.Errorf("kinds of errors: %v", kinds)
	}
}

func TestTargetThatHasMoved(t *testing.T) {
	content := pattern(1 << 20)
	s := export(t, bytes.NewReader(content), nil)
	var port int64
	send := func(to string) func(net.Conn) {
		return func(c net.Conn) {
			b := make([]byte, 4096)
			if n, err := c.Read(b); err != nil || n < login.HeaderLen {
				return
			}
			p := login.PDU{Data: []byte("TargetAddress=" + to + "\x00")}
			p.Header[0], p.Header[36], p.Header[37] = byte(login.OpLoginResponse), 1, 1
			copy(p.Header[16:20], b[16:20])
			binary.BigEndian.PutUint32(p.Header[24:], 1)
			p.SetLength()
			out := append(p.Header[:], p.Data...)
			_, _ = c.Write(append(out, make([]byte, -len(p.Data)&3)...))
			_, _ = io.Copy(io.Discard, c)
		}
	}
	d := newDriver(t)
	dev := attached(t, d, through(s, serve(t, send(control.Portal+",1"))), attach.Base{})
	if part := (models.Attach{Iscsi: s.Iscsi}); true {
		d.Observe(1, &part)
		if part.Iscsi.Session == nil || part.Iscsi.Session.Portal != control.Portal {
			t.Errorf("it is at %+v", part.Iscsi.Session)
		}
	}
	must(t, d.Detach(t.Context(), dev, false))
	port = serve(t, func(c net.Conn) { send("127.0.0.1:" + strconv.FormatInt(port, 10))(c) })
	_, err := d.Attach(t.Context(), 1, through(s, port), attach.Base{Dir: "/"})
	wantError(t, err, fault.Backend, "sends us elsewhere")
	nothingLeft(t)
}
