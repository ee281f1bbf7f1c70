// Package unixsock carries JSON lines and open files over a unix stream socket.
//
// It does so without package net, whose size and start-up cost a program of a few milliseconds would feel, and it reaches sockets
// through an open directory, so that the length of the directory's path does not matter. It owns sockets, never what is said.
package unixsock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// MaxLine bounds a message in bytes.
const MaxLine = 8 << 20

// maxFiles is how many files a message may carry.
const maxFiles = 8

// connectTimeout bounds waiting for a listener whose queue is full.
const connectTimeout = 5 * time.Second

// address is where a socket is; dir is held open as long as it is used.
type address struct {
	dir int
	sa  unix.SockaddrUnix
}

func resolve(path string) (address, error) {
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return address{}, &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	return address{dir, unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + filepath.Base(path)}}, nil
}

// Listen makes a listening socket at path, in place of one that is there, for root alone.
func Listen(path string) (*os.File, error) {
	a, err := resolve(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(a.dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
		unix.Close(fd)
		return nil, &os.PathError{Op: "unlink", Path: path, Err: err}
	}
	if err := errors.Join(unix.Fchmod(fd, 0o600), unix.Bind(fd, &a.sa), unix.Listen(fd, 64)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Dial connects to the listener at path. When nobody listens the error is ENOENT or ECONNREFUSED.
func Dial(path string) (*Conn, error) {
	a, err := resolve(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(a.dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket: %w", err)
	}
	tv := unix.NsecToTimeval(int64(connectTimeout))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bound connecting to %s: %w", path, err)
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Connect(fd, &a.sa)
	}
	if err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "connect", Path: path, Err: err}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return newConn(os.NewFile(uintptr(fd), path)), nil
}

// Accept waits for a connection on l, a nonblocking listener such as Listen makes.
func Accept(l *os.File) (*Conn, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	var aerr error
	err = raw.Read(func(s uintptr) bool {
		fd, _, aerr = unix.Accept4(int(s), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return aerr != unix.EAGAIN && aerr != unix.EINTR && aerr != unix.ECONNABORTED
	})
	if err = errors.Join(err, aerr); err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	return newConn(os.NewFile(uintptr(fd), "connection")), nil
}

// Conn is a connection. One goroutine may send while another receives.
type Conn struct {
	f     *os.File
	buf   []byte
	read  []byte
	files []*os.File
}

func newConn(f *os.File) *Conn { return &Conn{f: f} }

// PeerUID is the user that the other side connected as.
func (c *Conn) PeerUID() (uint32, error) {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var gerr error
	if err := raw.Control(func(s uintptr) { cred, gerr = unix.GetsockoptUcred(int(s), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if gerr != nil {
		return 0, fmt.Errorf("ask who is connected: %w", gerr)
	}
	return cred.Uid, nil
}

// SetDeadline bounds sending and receiving from now on; a zero time lifts it.
func (c *Conn) SetDeadline(t time.Time) error { return c.f.SetDeadline(t) }

// Close ends the connection and closes files that came and were not taken.
func (c *Conn) Close() error {
	for _, f := range c.files {
		f.Close()
	}
	c.files = nil
	return c.f.Close()
}

// Send sends v as a line of JSON, with files, which stay the caller's.
func (c *Conn) Send(v any, files ...*os.File) error {
	line, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	line = append(line, '\n')
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	for len(line) > 0 {
		n, err := sendmsg(raw, line, oob)
		if err != nil {
			return fmt.Errorf("send a message: %w", err)
		}
		line, oob = line[n:], nil
	}
	return nil
}

type rawConn interface {
	Read(func(uintptr) bool) error
	Write(func(uintptr) bool) error
}

func sendmsg(raw rawConn, b, oob []byte) (n int, err error) {
	var serr error
	err = raw.Write(func(s uintptr) bool {
		n, serr = unix.SendmsgN(int(s), b, oob, nil, unix.MSG_NOSIGNAL)
		return serr != unix.EAGAIN && serr != unix.EINTR
	})
	return n, errors.Join(err, serr)
}

// Receive reads the next line into v, and the files that came with it, which become the caller's. The end is io.EOF.
func (c *Conn) Receive(v any) ([]*os.File, error) {
	for {
		if i := bytes.IndexByte(c.buf, '\n'); i >= 0 {
			line := c.buf[:i]
			files := c.files
			c.buf, c.files = c.buf[i+1:], nil
			if err := json.Unmarshal(line, v); err != nil {
				closeAll(files)
				return nil, fmt.Errorf("decode a message: %w", err)
			}
			return files, nil
		}
		if len(c.buf) > MaxLine {
			return nil, fmt.Errorf("a message is longer than %d bytes", MaxLine)
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

func (c *Conn) fill() error {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	if c.read == nil {
		c.read = make([]byte, 16<<10)
	}
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	var n, oobn, flags int
	var rerr error
	err = raw.Read(func(s uintptr) bool {
		n, oobn, flags, _, rerr = unix.Recvmsg(int(s), c.read, oob, unix.MSG_CMSG_CLOEXEC)
		return rerr != unix.EAGAIN && rerr != unix.EINTR
	})
	if err := errors.Join(err, rerr); err != nil {
		return fmt.Errorf("receive a message: %w", err)
	}
	if err := c.take(oob[:oobn]); err != nil {
		return err
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0:
		return errors.New("a message carries too many files")
	case n == 0:
		return io.EOF
	}
	c.buf = append(c.buf, c.read[:n]...)
	return nil
}

func (c *Conn) take(oob []byte) error {
	if len(oob) == 0 {
		return nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("read the files of a message: %w", err)
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // some other kind of control message
		}
		for _, fd := range fds {
			c.files = append(c.files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
