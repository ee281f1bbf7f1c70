// Package netlink speaks with the kernel's iSCSI transport (NETLINK_ISCSI): it makes sessions and connections, gives them sockets and
// parameters, and hears what becomes of them. It speaks of TCP (module iscsi_tcp) alone.
//
// One socket and one reader serve all sessions: the kernel tells everybody of everything, and without numbers that would match answers
// to questions, so there is one question at a time. What is heard goes to the session that it is about; nobody who does not listen holds
// up the others. The package keeps no session: the kernel does.
//
// Numbers and names of the kernel's interface are github.com/u-root/iscsinl's, as far as that has them. Its functions are not used: each
// reads the socket itself and drops what is for others.
package netlink

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/u-root/iscsinl"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const (
	handleFile = "/sys/class/iscsi_transport/tcp/handle"
	group      = 1        // ISCSI_NL_GRP_ISCSID: everything that iSCSI daemons want to know
	inBuffer   = 4 << 20  // bytes; an event is a few hundred
	datagram   = 64 << 10 // bytes; a PDU of a login has 8 KiB at most
	// Addresses of sockets, above all that are the numbers of processes. The kernel shows them as numbers with a sign.
	minPort, maxPort = 1 << 30, 1<<31 - 1
	maxBinds         = 10
	// replyWait bounds the time from the end of a request, when the answer has been sent, to its arrival here.
	replyWait = 10 * time.Second
	// closeWait bounds Close.
	closeWait = 2 * time.Second
)

// ErrNoAnswer says that the kernel's answer has been lost: what was asked for may have been done.
var ErrNoAnswer = errors.New("the kernel's answer has been lost")

// ErrClosed says that the Kernel has been closed.
var ErrClosed = errors.New("the iSCSI netlink socket is closed")

// Kernel is the kernel's iSCSI transport. Its methods may be called from many goroutines.
type Kernel struct {
	port    uint32
	handle  uint64
	sock    Socket
	turn    chan struct{} // holds one element while nobody has a request under way
	replies chan event
	closed  chan struct{} // when the reader has ended
	wait    time.Duration // replyWait

	mu        sync.Mutex
	listeners map[uint32]*Session
}

// Open opens the socket and starts the reader. Unsupported: the kernel has no iSCSI over TCP.
func Open() (*Kernel, error) {
	sock, port, err := openSocket()
	if err != nil {
		return nil, err
	}
	handle, err := transport()
	if err != nil {
		sock.Close()
		return nil, err
	}
	return Over(sock, port, handle), nil
}

// Over is Open on a socket that is open: port is its address, handle what the kernel calls its transport by. Tests have kernels of their
// own by it.
func Over(sock Socket, port uint32, handle uint64) *Kernel {
	k := &Kernel{
		port: port, handle: handle, sock: sock, turn: make(chan struct{}, 1), replies: make(chan event, 1), closed: make(chan struct{}),
		wait:      replyWait,
		listeners: map[uint32]*Session{},
	}
	k.turn <- struct{}{}
	go k.read()
	return k
}

// Creator is what the kernel shows as the creator of this Kernel's sessions (iscsi_session/sessionN/creator).
func (k *Kernel) Creator() int { return int(k.port) }

// transport is what the kernel calls TCP by.
func transport() (uint64, error) {
	b, err := os.ReadFile(handleFile)
	if errors.Is(err, os.ErrNotExist) {
		return 0, unsupported(err)
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

func unsupported(err error) error {
	err = fault.New(fault.Unsupported, "the kernel has no iSCSI over TCP: %w", err)
	return fault.Hintf(err, "load the module iscsi_tcp (modprobe iscsi_tcp, or a line iscsi_tcp in /etc/modules-load.d), or use a kernel that has it")
}

// Close ends the reader. Sessions stay as they are. A request that the kernel holds up is left behind.
func (k *Kernel) Close() {
	done := make(chan struct{})
	go func() {
		_ = k.sock.Close()
		<-k.closed
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeWait):
	}
}

// ask sends a request and gives the answer. When ctx ends first the request goes on, and the next one waits for it. After is called when
// the kernel has no more to do with the request.
func (k *Kernel) ask(ctx context.Context, what string, message []byte, after func()) (event, error) {
	select {
	case <-k.turn:
	case <-ctx.Done():
		after()
		return event{}, fmt.Errorf("%s: the kernel is busy with another order for iSCSI: %w", what, ctx.Err())
	}
	type outcome struct {
		e   event
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		e, err := k.exchange(message)
		after()
		k.turn <- struct{}{}
		done <- outcome{e, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return event{}, fmt.Errorf("%s: %w", what, o.err)
		}
		return o.e, nil
	case <-ctx.Done():
		return event{}, fmt.Errorf("%s: the kernel has not answered: %w", what, ctx.Err())
	}
}

// exchange is ask without waiting for a turn. The kernel carries out the request before the call that sends it returns.
func (k *Kernel) exchange(message []byte) (event, error) {
	if err := k.sock.Send(message); err != nil {
		return event{}, err
	}
	timer := time.NewTimer(k.wait)
	defer timer.Stop()
	for {
		select {
		case e := <-k.replies:
			switch {
			case !e.answers(message): // but what somebody asked who has given up
			case e.kind == iscsinl.ISCSI_KEVENT_IF_ERROR:
				return event{}, e.errno
			default:
				return e, nil
			}
		case <-k.closed:
			return event{}, ErrClosed
		case <-timer.C:
			return event{}, fault.New(fault.Timeout, "%w", ErrNoAnswer)
		}
	}
}
