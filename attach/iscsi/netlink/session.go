package netlink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/u-root/iscsinl"

	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

// connection is the number of a session's only connection.
const connection = 0

// Session listens to one session of the kernel and gives it orders.
type Session struct {
	ID, Host uint32 // their numbers: iscsi_session/sessionID and scsi_host/hostHOST

	kernel *Kernel
	pdus   chan login.PDU
	lost   chan string
	woken  chan struct{}
}

// Stop says how a connection ends.
type Stop uint32

// The ways.
const (
	Terminate Stop = 1                         // for good: what waits for it fails
	Recover   Stop = iscsinl.STOP_CONN_RECOVER // it is to come back: what waits goes on waiting
)

// Session is for a session that is there. It hears nothing before Listen.
func (k *Kernel) Session(id, host uint32) *Session {
	return &Session{ID: id, Host: host, kernel: k, pdus: make(chan login.PDU, 16), lost: make(chan string, 1), woken: make(chan struct{}, 1)}
}

// Listen is Session, and listens.
func (k *Kernel) Listen(id, host uint32) *Session {
	s := k.Session(id, host)
	s.Listen()
	return s
}

// Listen hears what becomes of the session from now on. One listens to a session at a time, the last one; Close ends it.
func (s *Session) Listen() {
	s.kernel.mu.Lock()
	defer s.kernel.mu.Unlock()
	s.kernel.listeners[s.ID] = s
}

// Close stops listening. The session stays.
func (s *Session) Close() {
	k := s.kernel
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.listeners[s.ID] == s {
		delete(k.listeners, s.ID)
	}
}

// Lost tells why the connection was lost, once for each time or for several.
func (s *Session) Lost() <-chan string { return s.lost }

// Woken tells that the session has changed, or may have: whoever waits for something is to look.
func (s *Session) Woken() <-chan struct{} { return s.woken }

func (s *Session) lose(why string) {
	select {
	case s.lost <- why:
	default:
	}
}

func (s *Session) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// forget drops what was heard of a connection that is no more.
func (s *Session) forget() {
	for {
		select {
		case <-s.pdus:
		case <-s.lost:
		default:
			return
		}
	}
}

func (s *Session) ask(ctx context.Context, what string, kind iscsinl.IscsiEvent, payload []byte, ask ...uint32) (event, error) {
	return s.askAfter(ctx, what, kind, payload, func() {}, ask...)
}

func (s *Session) askAfter(ctx context.Context, what string, kind iscsinl.IscsiEvent, payload []byte, after func(), ask ...uint32) (event, error) {
	k := s.kernel
	return k.ask(ctx, fmt.Sprintf("%s session %d", what, s.ID), request(kind, k.handle, payload, append([]uint32{s.ID}, ask...)...), after)
}

// order is ask where the answer is a code.
func (s *Session) order(ctx context.Context, what string, kind iscsinl.IscsiEvent, payload []byte, ask ...uint32) error {
	e, err := s.ask(ctx, what, kind, payload, ask...)
	return s.judge(what, e, err)
}

func (s *Session) judge(what string, e event, err error) error {
	if err == nil && e.code() != 0 {
		err = fmt.Errorf("%s session %d: %w", what, s.ID, e.code())
	}
	return err
}

// Connect gives the session its connection, for the first time. It has no socket yet.
func (s *Session) Connect(ctx context.Context) error {
	_, err := s.ask(ctx, "make the connection of", iscsinl.ISCSI_UEVENT_CREATE_CONN, nil, connection)
	return err
}

// Bind gives the connection a socket. The kernel holds it then; c can be closed.
func (s *Session) Bind(ctx context.Context, c *net.TCPConn) error {
	fd, err := duplicate(c)
	if err != nil {
		return err
	}
	s.forget()
	var number [8]byte
	binary.NativeEndian.PutUint64(number[:], uint64(fd))
	low, high := binary.NativeEndian.Uint32(number[:]), binary.NativeEndian.Uint32(number[4:])
	// The kernel looks up the descriptor when it comes to the request, which may be after ctx has ended.
	after := func() { unix.Close(fd) }
	const what = "give a socket to"
	e, err := s.askAfter(ctx, what, iscsinl.ISCSI_UEVENT_BIND_CONN, nil, after, connection, low, high, 1)
	return s.judge(what, e, err)
}

func duplicate(c *net.TCPConn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var fd int
	var failed error
	err = raw.Control(func(orig uintptr) { fd, failed = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 0) })
	if err == nil {
		err = os.NewSyscallError("dup", failed)
	}
	return fd, err
}

// Set sets a parameter. The connection must have a socket, but for the session's recovery timeout.
func (s *Session) Set(ctx context.Context, p iscsinl.IscsiParam, value string) error {
	text := append([]byte(value), 0)
	what := fmt.Sprintf("set the parameter %s (%d) to %q in", p, uint32(p), value)
	return s.order(ctx, what, iscsinl.ISCSI_UEVENT_SET_PARAM, text, connection, uint32(p), uint32(len(text)))
}

// Start lets commands flow. The login must have come to its end.
func (s *Session) Start(ctx context.Context) error {
	return s.order(ctx, "start", iscsinl.ISCSI_UEVENT_START_CONN, nil, connection)
}

// Stop takes the socket from the connection.
func (s *Session) Stop(ctx context.Context, how Stop) error {
	_, err := s.ask(ctx, "stop", iscsinl.ISCSI_UEVENT_STOP_CONN, nil, connection, 0, 0, uint32(how))
	return err
}

// Disconnect takes the connection from the session. It must have been stopped.
func (s *Session) Disconnect(ctx context.Context) error {
	_, err := s.ask(ctx, "end the connection of", iscsinl.ISCSI_UEVENT_DESTROY_CONN, nil, connection)
	return err
}

// Unbind has the kernel remove the session's SCSI devices, in the background.
func (s *Session) Unbind(ctx context.Context) error {
	_, err := s.ask(ctx, "remove the devices of", ueventUnbindSession, nil)
	return err
}

// Destroy has the kernel remove the session with all that is left of it, in the background where the kernel can (Linux 5.6).
func (s *Session) Destroy(ctx context.Context) error {
	_, err := s.ask(ctx, "destroy", ueventDestroySessionAsync, nil)
	if errors.Is(err, unix.ENOSYS) {
		_, err = s.ask(ctx, "destroy", iscsinl.ISCSI_UEVENT_DESTROY_SESSION, nil)
	}
	return err
}
