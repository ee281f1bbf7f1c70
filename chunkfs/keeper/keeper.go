// Package keeper holds the descriptors of the chunkfs server while no server runs, and starts the server again when it dies. It is part of
// windlass-shim and knows nothing of images: it depends on the standard library and x/sys alone.
//
// A server started by the keeper inherits a seqpacket socket as descriptor 3. On it the server stores and drops descriptors by name; at a
// start the keeper first sends all that are stored. What is stored outlives the server, however it dies: a FUSE connection goes on, its
// readers wait, and the next server takes it up.
//
// The server does not die with its keeper. When the keeper is killed, a server that goes on serving is worth more to its readers than one
// that cannot be taken over any more; it knows (Client.Kept) and tells. The lock passes to the server too, so that a second pair cannot
// begin beside it.
package keeper

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// What a server inherits.
const (
	socketFD = 3
	lockFD   = 4
	// startsEnv says in the environment that descriptor 3 is the keeper's socket: its value is which start this is, from 1.
	startsEnv = "WINDLASS_KEEPER_START"
)

// MaxStored is how many descriptors the keeper holds at most.
const MaxStored = 4096

// The words of the protocol. Each packet is one word, or a word and an argument, and at most one descriptor.
const (
	sayStore  = "store" // server: hold this descriptor under this name
	sayDrop   = "drop"  // server: close what has this name
	sayUp     = "up"    // server: I serve
	sayStored = "fd"    // keeper, at a start: this is held under this name
	sayBegin  = "begin" // keeper, at a start: that was all
	sayOK     = "ok"    // keeper: done
	sayNo     = "no"    // keeper: not done, because
)

// maxPacket bounds a packet in bytes.
const maxPacket = 512

// checkName refuses names that could not be told from the protocol's own words.
func checkName(name string) error {
	if name == "" || len(name) > 128 || strings.ContainsAny(name, " \n\x00") {
		return fmt.Errorf("%q is no name for a descriptor", name)
	}
	return nil
}

// send sends one packet; fd is -1 for none.
func send(sock int, word, arg string, fd int) error {
	if arg != "" {
		word += " " + arg
	}
	var oob []byte
	if fd >= 0 {
		oob = unix.UnixRights(fd)
	}
	for {
		err := unix.Sendmsg(sock, []byte(word), oob, nil, unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// errGone says that the other side has closed the socket, or died.
var errGone = errors.New("the other side has gone")

// receive waits for one packet; fd is -1 when none came with it, and the caller's otherwise.
func receive(sock int) (word, arg string, fd int, err error) {
	buf, oob := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4))
	var n, oobn, flags int
	for err = unix.EINTR; err == unix.EINTR; {
		n, oobn, flags, _, err = unix.Recvmsg(sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
	}
	if err == unix.ECONNRESET || err == nil && n == 0 {
		err = errGone
	}
	if err != nil {
		return "", "", -1, err
	}
	fd, ok := descriptor(oob[:oobn])
	if !ok || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeFD(fd)
		return "", "", -1, errors.New("a packet is longer than any that there is, or has more than one descriptor")
	}
	word, arg, _ = strings.Cut(string(buf[:n]), " ")
	return word, arg, fd, nil
}

// descriptor takes the descriptor that came with a packet, -1 for none. Of several it keeps none, and says so.
func descriptor(oob []byte) (fd int, ok bool) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, false
	}
	var all []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err == nil {
			all = append(all, fds...)
		}
	}
	switch len(all) {
	case 0:
		return -1, true
	case 1:
		return all[0], true
	}
	for _, fd := range all {
		unix.Close(fd)
	}
	return -1, false
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// takeLock takes the lock for as long as anybody has the file open: the keeper, or a server that has outlived it.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			return nil, fmt.Errorf("another keeper, or a server that it left, holds %s", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
