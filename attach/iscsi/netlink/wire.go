package netlink

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/u-root/iscsinl"
)

// A message of NETLINK_ISCSI is a struct iscsi_uevent of the kernel's include/scsi/iscsi_if.h and what follows it: type, error, the
// transport's handle, 24 bytes that depend on what is asked, 16 that depend on what is answered. Numbers are in the machine's order.
const (
	offType   = 0
	offError  = 4
	offHandle = 8
	offAsk    = 16
	offAnswer = 40
	eventLen  = 56
	headerLen = unix.SizeofNlMsghdr
)

// What iscsinl has no names for.
const (
	ueventUnbindSession       = iscsinl.UEVENT_BASE + 17
	ueventDestroySessionAsync = iscsinl.UEVENT_BASE + 33
	keventDestroySession      = iscsinl.KEVENT_BASE + 4
	keventUnbindSession       = iscsinl.KEVENT_BASE + 5
)

// event is a message without its netlink header.
type event struct {
	reply bool               // it answers a request
	asked iscsinl.IscsiEvent // which request
	kind  iscsinl.IscsiEvent // the same, or ISCSI_KEVENT_IF_ERROR; of no reply, what has happened
	errno unix.Errno         // of kind ISCSI_KEVENT_IF_ERROR
	body  []byte             // the whole message, eventLen bytes at least
}

func (e event) answer32(n int) uint32 { return binary.NativeEndian.Uint32(e.body[offAnswer+4*n:]) }

// code is the answer where that is a number alone, as of bind and start: 0 or an error.
func (e event) code() unix.Errno { return errno(int32(e.answer32(0))) }

// answers says whether e is the answer to a request: the kernel sends the request back, with what it has to say put in. The first word of
// what is asked is the number of the session, where there is one already.
func (e event) answers(request []byte) bool {
	asked := request[headerLen:]
	return uint32(e.asked) == binary.NativeEndian.Uint32(asked[offType:]) && (e.kind == e.asked || e.kind == iscsinl.ISCSI_KEVENT_IF_ERROR) &&
		bytes.Equal(e.body[offAsk:offAsk+4], asked[offAsk:offAsk+4])
}

// payload is what follows the message proper.
func (e event) payload() []byte { return e.body[eventLen:] }

func errno(code int32) unix.Errno {
	if code < 0 {
		code = -code
	}
	return unix.Errno(code)
}

// request makes a message with its header: ask are the words at offAsk.
func request(kind iscsinl.IscsiEvent, handle uint64, payload []byte, ask ...uint32) []byte {
	b := make([]byte, headerLen+eventLen, headerLen+eventLen+len(payload))
	e := b[headerLen:]
	binary.NativeEndian.PutUint32(e[offType:], uint32(kind))
	binary.NativeEndian.PutUint64(e[offHandle:], handle)
	for i, word := range ask {
		binary.NativeEndian.PutUint32(e[offAsk+4*i:], word)
	}
	b = append(b, payload...)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], uint16(kind))
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	return b
}

// parse reads the messages of one datagram. What it gives points into b.
func parse(b []byte) ([]event, error) {
	var all []event
	for len(b) > 0 {
		if len(b) < headerLen {
			return all, fmt.Errorf("%d bytes are less than a netlink header", len(b))
		}
		n := int64(binary.NativeEndian.Uint32(b))
		if n < headerLen || n > int64(len(b)) {
			return all, fmt.Errorf("a netlink message says that it has %d bytes, of %d", n, len(b))
		}
		body := b[headerLen:n]
		kind := binary.NativeEndian.Uint16(b[4:])
		if len(body) < eventLen {
			return all, fmt.Errorf("a message of %d bytes is shorter than an iSCSI event", len(body))
		}
		e := event{
			body: body, reply: kind >= uint16(iscsinl.UEVENT_BASE), asked: iscsinl.IscsiEvent(kind),
			kind: iscsinl.IscsiEvent(binary.NativeEndian.Uint32(body[offType:])),
		}
		if e.kind == iscsinl.ISCSI_KEVENT_IF_ERROR {
			e.errno = errno(int32(binary.NativeEndian.Uint32(body[offError:])))
		}
		all = append(all, e)
		b = b[min((n+3)&^3, int64(len(b))):]
	}
	return all, nil
}
