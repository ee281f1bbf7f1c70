// Package act is the acting side of internal/helper: windlass-shim, called with the word helper, carries out one order and ends. It is part
// of the shim and stays small: it depends on the standard library and x/sys alone.
//
// The order is one packet on the seqpacket socket that is descriptor 0, the answer another. It owns nothing that outlives it.
package act

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Word is what windlass-shim is called with to be a helper.
const Word = "helper"

// MaxPacket bounds an order and an answer in bytes, as JSON.
const MaxPacket = 96 << 10

// maxFiles is how many descriptors a packet may carry.
const maxFiles = 8

// What can be ordered.
const (
	OpWrite   = "write"
	OpCreate  = "create"
	OpUnmount = "unmount"
	OpStatfs  = "statfs"
	OpAbort   = "abort"
	OpSync    = "sync"
	OpClose   = "close"
	OpRead    = "read"
	OpOpen    = "open"
)

// Order is what a helper does.
type Order struct {
	Op      string
	Path    string        `json:",omitempty"` // write, unmount, statfs, abort, sync, read, open
	Data    []byte        `json:",omitempty"` // write
	Flags   int           `json:",omitempty"` // unmount: MNT_* and UMOUNT_*; open: O_*
	For     time.Duration `json:",omitempty"` // abort
	FSType  string        `json:",omitempty"` // create
	Options []Option      `json:",omitempty"` // create
	Attrs   uint64        `json:",omitempty"` // create: MOUNT_ATTR_*
	Max     int           `json:",omitempty"` // read: bytes
}

// Option is one call of fsconfig(2).
type Option struct {
	Key   string
	Value string `json:",omitempty"`
	Flag  bool   `json:",omitempty"`
	File  bool   `json:",omitempty"` // the value is the next of the descriptors that came with the order
}

// Go is the packet after an order of OpClose: its sender has closed the descriptors, so that the helper is the last to.
type Go struct{}

// Answer is what came of an order. With OpCreate and OpOpen and no Errno a descriptor comes with it, of the mount or the file.
type Answer struct {
	Errno    int      `json:",omitempty"`
	Call     string   `json:",omitempty"` // which call gave Errno: that of the order, or open; with OpCreate one of the Call constants
	Option   int      `json:",omitempty"` // with CallOption: its index
	Messages []string `json:",omitempty"` // of the file system context
	Written  int      `json:",omitempty"` // write
	File     *File    `json:",omitempty"` // read
}

// The calls of OpCreate.
const (
	CallOpen   = "open"
	CallOption = "option"
	CallCreate = "create"
	CallMount  = "mount"
)

// Run carries out the order that waits on descriptor 0.
func Run() error {
	var o Order
	fds, err := Receive(0, &o)
	if err != nil {
		return fmt.Errorf("receive an order: %w", err)
	}
	answer, fd := o.carryOut(fds)
	if fd < 0 {
		return Send(0, answer)
	}
	return Send(0, answer, fd)
}

func (o Order) carryOut(fds []int) (answer Answer, fd int) {
	switch o.Op {
	case OpWrite:
		return o.write(), -1
	case OpCreate:
		return o.create(fds)
	case OpUnmount:
		return failed(OpUnmount, unix.Unmount(o.Path, o.Flags)), -1
	case OpStatfs:
		return failed(OpStatfs, unix.Statfs(o.Path, new(unix.Statfs_t))), -1
	case OpAbort:
		return o.abort(), -1
	case OpSync:
		return o.sync(), -1
	case OpRead:
		return o.read(), -1
	case OpOpen:
		fd, err := unix.Open(o.Path, o.Flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		if err != nil {
			return failed(OpOpen, err), -1
		}
		return Answer{}, fd
	case OpClose:
		_, _ = Receive(0, new(Go)) // or the daemon has died
		closeAll(fds)
		return Answer{}, -1
	}
	return failed(o.Op, unix.ENOSYS), -1
}

// abortEvery is how long what begins to wait does so: many a call that was aborted is made again, such as a read after the read-ahead.
const abortEvery = 20 * time.Millisecond

// abort holds on to the mount, which therefore is not unmounted: the kernel aborts first and says then that it is busy.
func (o Order) abort() Answer {
	fd, err := unix.Open(o.Path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open", err)
	}
	defer unix.Close(fd)
	for end := time.Now().Add(o.For); time.Now().Before(end); time.Sleep(abortEvery) {
		if err = unix.Unmount(o.Path, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW); err != unix.EBUSY {
			return failed(OpAbort, err)
		}
	}
	return Answer{}
}

// sync has all written that was changed through the file system of a directory.
func (o Order) sync() Answer {
	fd, err := unix.Open(o.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open", err)
	}
	defer unix.Close(fd)
	return failed(OpSync, unix.Syncfs(fd))
}

func failed(call string, err error) Answer {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return Answer{Errno: int(errno), Call: call}
	}
	return Answer{}
}

// write is not tried again when a signal interrupts it: who wrote may have begun what cannot be begun twice.
func (o Order) write() Answer {
	fd, err := unix.Open(o.Path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return failed("open", err)
	}
	defer unix.Close(fd)
	n, err := unix.Write(fd, o.Data)
	if err != nil {
		return failed(OpWrite, err)
	}
	return Answer{Written: n}
}

// Send sends v as one packet of JSON, with descriptors.
func Send(sock int, v any, fds ...int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > MaxPacket || len(fds) > maxFiles {
		return fmt.Errorf("a packet of %d bytes and %d descriptors is more than %d and %d", len(b), len(fds), MaxPacket, maxFiles)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	for {
		if err := unix.Sendmsg(sock, b, oob, nil, unix.MSG_NOSIGNAL); err != unix.EINTR {
			return err
		}
	}
}

// ErrGone says that the other side has closed its socket, or died.
var ErrGone = errors.New("the other side has gone")

// Receive waits for one packet; the descriptors that come with it are the caller's.
func Receive(sock int, v any) (fds []int, err error) {
	buf, oob := make([]byte, MaxPacket), make([]byte, unix.CmsgSpace(4*maxFiles))
	var n, oobn, flags int
	for err = unix.EINTR; err == unix.EINTR; {
		n, oobn, flags, _, err = unix.Recvmsg(sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err == unix.ECONNRESET || err == nil && n == 0 {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	fds, err = rights(oob[:oobn])
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("a packet is larger than any that there is")
	}
	if err == nil {
		err = json.Unmarshal(buf[:n], v)
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	return fds, nil
}

func rights(oob []byte) ([]int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var all []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err == nil { // else some other kind of control message
			all = append(all, fds...)
		}
	}
	return all, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
