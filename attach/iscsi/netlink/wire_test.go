package netlink

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/u-root/iscsinl"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

// message is one as the kernel sends it.
func message(netlinkType uint16, kind iscsinl.IscsiEvent, payload []byte, answer ...uint32) []byte {
	b := request(kind, 1, payload)
	binary.NativeEndian.PutUint16(b[4:], netlinkType)
	for i, word := range answer {
		binary.NativeEndian.PutUint32(b[headerLen+offAnswer+4*i:], word)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestParse(t *testing.T) {
	failed := message(uint16(iscsinl.ISCSI_UEVENT_BIND_CONN), iscsinl.ISCSI_KEVENT_IF_ERROR, nil)
	number := -int32(unix.ENOTCONN)
	binary.NativeEndian.PutUint32(failed[headerLen+offError:], uint32(number))
	all, err := parse(append(failed, message(0, iscsinl.ISCSI_KEVENT_CONN_ERROR, []byte("abc"), 7, 0, 1020)...))
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if e := all[0]; !e.reply || e.errno != unix.ENOTCONN {
		t.Errorf("the answer is %+v", e)
	}
	if e := all[1]; e.reply || e.kind != iscsinl.ISCSI_KEVENT_CONN_ERROR || e.answer32(0) != 7 || e.answer32(2) != 1020 || string(e.payload()) != "abc" {
		t.Errorf("the event is %+v", e)
	}
}

// listening is a Kernel without a socket, which hears what take is given.
func listening(sids ...uint32) (*Kernel, []*Session) {
	k := &Kernel{replies: make(chan event, 1), closed: make(chan struct{}), listeners: map[uint32]*Session{}}
	var all []*Session
	for _, sid := range sids {
		all = append(all, k.Listen(sid, sid+100))
	}
	return k, all
}

func TestEventsReachTheirSession(t *testing.T) {
	k, s := listening(1, 2)
	pdu := make([]byte, login.HeaderLen+5)
	pdu[0], pdu[7] = byte(login.OpLoginResponse), 5
	copy(pdu[login.HeaderLen:], "hello")
	k.take(message(0, iscsinl.ISCSI_KEVENT_RECV_PDU, pdu, 2, 0))
	k.take(message(0, iscsinl.ISCSI_KEVENT_CONN_ERROR, nil, 2, 0, iscsinl.ISCSI_ERR_TCP_CONN_CLOSE))
	k.take(message(0, iscsinl.ISCSI_KEVENT_CONN_ERROR, nil, 9, 0, iscsinl.ISCSI_ERR_TCP_CONN_CLOSE)) // nobody's
	k.take(message(0, keventDestroySession, nil, 101, 1))
	if p, err := s[1].Receive(t.Context()); err != nil || string(p.Data) != "hello" {
		t.Errorf("%q, %v", p.Data, err)
	}
	if _, err := s[1].Receive(t.Context()); err == nil || err.Error() != "the target has closed the connection" {
		t.Errorf("after the connection was lost: %v", err)
	}
	select {
	case <-s[0].Woken():
	default:
		t.Error("session 1 has not heard that it is gone")
	}
	if len(s[0].pdus)+len(s[0].lost)+len(s[1].woken) != 0 {
		t.Error("something went to the wrong session")
	}
}

// TestNobodyHoldsUpTheReader: a session that takes nothing loses its own events.
func TestNobodyHoldsUpTheReader(t *testing.T) {
	k, s := listening(1, 2)
	pdu := make([]byte, login.HeaderLen)
	for range 100 {
		k.take(message(0, iscsinl.ISCSI_KEVENT_RECV_PDU, pdu, 1, 0))
	}
	k.take(message(0, iscsinl.ISCSI_KEVENT_RECV_PDU, pdu, 2, 0))
	if len(s[1].pdus) != 1 || len(s[0].lost) != 1 {
		t.Errorf("the other has %d PDUs; the one knows of %d losses", len(s[1].pdus), len(s[0].lost))
	}
	k.resync()
	for i, s := range s {
		if len(s.woken) != 1 {
			t.Errorf("session %d does not look for itself after events were lost", i+1)
		}
	}
}

func FuzzTake(f *testing.F) {
	f.Add(message(0, iscsinl.ISCSI_KEVENT_RECV_PDU, make([]byte, 60), 1, 0))
	f.Add(append(message(12, iscsinl.ISCSI_KEVENT_IF_ERROR, nil), message(0, keventDestroySession, nil, 101, 1)...))
	f.Add([]byte{255, 255, 255, 255, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, _ := listening(1)
		k.take(b)
	})
}

// late is a Socket of a kernel that answers what was asked long ago before it answers.
type late struct {
	out    chan []byte
	before [][]byte
}

func (l *late) Send(b []byte) error {
	for _, m := range l.before {
		l.out <- m
	}
	l.out <- b // what is asked comes back as the answer
	return nil
}

func (l *late) Receive(b []byte) (int, bool, error) {
	m, ok := <-l.out
	if !ok {
		return 0, false, os.ErrClosed
	}
	return copy(b, m), true, nil
}

func (l *late) Close() error { close(l.out); return nil }

func TestAnswersOfOtherRequests(t *testing.T) {
	asked := func(kind, answered iscsinl.IscsiEvent, sid, code uint32) []byte {
		m := message(uint16(kind), answered, nil, code)
		binary.NativeEndian.PutUint32(m[headerLen+offAsk:], sid)
		return m
	}
	failed := asked(iscsinl.ISCSI_UEVENT_STOP_CONN, iscsinl.ISCSI_KEVENT_IF_ERROR, 1, 0)
	binary.NativeEndian.PutUint32(failed[headerLen+offError:], uint32(unix.EIO))
	k := Over(&late{out: make(chan []byte, 10), before: [][]byte{
		asked(iscsinl.ISCSI_UEVENT_START_CONN, iscsinl.ISCSI_UEVENT_START_CONN, 2, uint32(unix.EIO)),           // of another session
		asked(iscsinl.ISCSI_UEVENT_CREATE_SESSION, iscsinl.ISCSI_UEVENT_CREATE_SESSION, 1, uint32(unix.EPERM)), // of another kind
		failed,
	}}, minPort, 1)
	defer k.Close()
	for range 3 {
		if err := k.Session(1, 101).Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// sick is a Socket that fails to receive a few times, hears of session 1 that it is destroyed, and cannot be closed while a request is held up.
type sick struct {
	fails   int
	held    chan struct{}
	ended   chan struct{}
	endOnce sync.Once
}

func (s *sick) Send([]byte) error { return nil }

func (s *sick) Receive(b []byte) (int, bool, error) {
	if s.fails--; s.fails >= 0 {
		return 0, false, unix.EIO
	}
	if s.fails == -1 {
		return copy(b, message(0, keventDestroySession, nil, 101, 1)), true, nil
	}
	<-s.ended
	return 0, false, os.ErrClosed
}

func (s *sick) Close() error {
	s.endOnce.Do(func() { close(s.ended) })
	<-s.held
	return nil
}

func TestReaderGoesOnAndCloseComesBack(t *testing.T) {
	s := &sick{fails: 3, held: make(chan struct{}), ended: make(chan struct{})}
	defer close(s.held)
	k := Over(s, minPort, 1)
	l := k.Listen(1, 101)
	for range 2 { // the first says that something may have been lost
		select {
		case <-l.Woken():
		case <-k.closed:
			t.Fatal("the reader has ended")
		case <-time.After(20 * time.Second):
			t.Fatal("nothing is heard any more")
		}
	}
	closed := make(chan struct{})
	go func() { k.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("Close does not come back")
	}
}

// TestSessionThatIsNotHeardOf: without an answer nobody may believe that there is no session.
func TestSessionThatIsNotHeardOf(t *testing.T) {
	s := &sick{held: make(chan struct{}), ended: make(chan struct{})}
	close(s.held)
	k := Over(s, minPort, 1)
	defer k.Close()
	k.wait = 10 * time.Millisecond
	if _, err := k.Create(t.Context(), 32, 16, func() { t.Error("it is said that there is none") }); !errors.Is(err, ErrNoAnswer) {
		t.Error(err)
	}
}
