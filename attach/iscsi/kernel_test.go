package iscsi

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/u-root/iscsinl"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
)

// What a message of the kernel looks like (netlink/wire.go).
const (
	nlHeader  = 16
	kindAt    = nlHeader
	sidAt     = nlHeader + 16
	answerAt  = nlHeader + 40
	messageIs = nlHeader + 56
)

// fakeKernel is the other end of a netlink socket: it agrees to everything, and its targets answer
// pings and log out whom they are asked to.
type fakeKernel struct {
	out    chan []byte
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	hook func(kind iscsinl.IscsiEvent, message []byte) // sees each request
}

func (f *fakeKernel) Send(b []byte) error {
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	kind := iscsinl.IscsiEvent(binary.NativeEndian.Uint32(b[kindAt:]))
	if hook != nil {
		hook(kind, b)
	}
	reply := append([]byte{}, b[:messageIs]...)
	binary.NativeEndian.PutUint32(reply, messageIs)
	f.out <- reply
	if kind == iscsinl.ISCSI_UEVENT_SEND_PDU {
		sid := binary.NativeEndian.Uint32(b[sidAt:])
		switch login.Opcode(b[messageIs] & 0x3f) {
		case login.OpNopOut:
			f.pdu(sid, login.PDU{Header: [login.HeaderLen]byte{byte(login.OpNopIn)}})
		case login.OpLogoutRequest:
			f.pdu(sid, login.PDU{Header: [login.HeaderLen]byte{byte(login.OpLogoutResponse)}})
		}
	}
	return nil
}

func (f *fakeKernel) Receive(b []byte) (int, bool, error) {
	select {
	case m := <-f.out:
		return copy(b, m), true, nil
	case <-f.closed:
		return 0, false, os.ErrClosed
	}
}

func (f *fakeKernel) Close() error { f.once.Do(func() { close(f.closed) }); return nil }

// pdu has session sid receive a PDU.
func (f *fakeKernel) pdu(sid uint32, p login.PDU) {
	p.SetLength()
	b := make([]byte, messageIs, messageIs+login.HeaderLen)
	b = append(append(b, p.Header[:]...), p.Data...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[kindAt:], uint32(iscsinl.ISCSI_KEVENT_RECV_PDU))
	binary.NativeEndian.PutUint32(b[answerAt:], sid)
	f.out <- b
}

// on has hook see each request.
func (f *fakeKernel) on(hook func(kind iscsinl.IscsiEvent, message []byte)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// onFake gives a driver on a fake kernel with a sysfs of our own making.
func onFake(t *testing.T) (*Driver, tree, *fakeKernel) {
	t.Helper()
	s := tree{t, t.TempDir()}
	f := &fakeKernel{out: make(chan []byte, 1000), closed: make(chan struct{})}
	d := New(Config{Instance: "w", Dir: filepath.Join(t.TempDir(), "iscsi")})
	d.sys = s.dir
	d.connect = func() (*netlink.Kernel, error) { return netlink.Over(f, 1<<30, 1), nil }
	t.Cleanup(func() { must(t, d.Close()) })
	return d, s, f
}

// eventually waits until what is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}
