package keeper

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzPacket takes any bytes as what a server sends, with some descriptors: the keeper says one thing, and has what it holds and no
// descriptor more.
func FuzzPacket(f *testing.F) {
	for _, s := range []string{"store a", "store", "store ", "store a b", "drop a", "drop", "up", "up x", "fd a", "begin", "\x00", " ", "store " + strings.Repeat("n", 128),
		strings.Repeat("x", 600)} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(2))
	}
	f.Fuzz(func(t *testing.T, b []byte, descriptors uint8) {
		if len(b) > 4096 || len(b) == 0 { // nothing is the end of the socket
			return
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		pipe := sent(t, pair[1], b, int(descriptors%5))
		defer unix.Close(pipe)
		k := &keeper{files: map[string]int{}}
		word, name, fd, err := receive(pair[0])
		if err == nil {
			err = k.answer(word, name, fd)
		}
		if err == nil && word != sayStore && word != sayDrop && word != sayUp {
			t.Fatalf("%q was done", b)
		}
		if open(t, pipe) != (len(k.files) > 0) {
			t.Fatalf("%q with %d descriptors: %v; %d are held, and yet any is open: %v", b, descriptors%5, err, len(k.files), open(t, pipe))
		}
		for name, fd := range k.files {
			if checkName(name) != nil {
				t.Fatalf("held as %q", name)
			}
			unix.Close(fd)
		}
	})
}

// sent sends a packet with so many copies of one end of a pipe, and gives the other end.
func sent(t *testing.T, sock int, b []byte, copies int) int {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[1])
	var oob []byte
	if copies > 0 {
		fds := make([]int, copies)
		for i := range fds {
			fds[i] = p[1]
		}
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(sock, b, oob, nil, 0); err != nil {
		t.Fatal(err)
	}
	return p[0]
}

// open reports whether anybody has the other end of the pipe.
func open(t *testing.T, pipe int) bool {
	t.Helper()
	_, err := unix.Read(pipe, make([]byte, 1))
	return err == unix.EAGAIN
}
