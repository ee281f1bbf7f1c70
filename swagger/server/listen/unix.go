package listen

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Peer is who is at the other end of a unix socket.
type Peer struct {
	UID uint32
	PID int32
}

// PeerOf asks the kernel; ok is false for another kind of connection.
func PeerOf(conn net.Conn) (peer Peer, ok bool, err error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, false, nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, true, err
	}
	var cred *unix.Ucred
	var gerr error
	if err := raw.Control(func(fd uintptr) { cred, gerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return Peer{}, true, err
	}
	if gerr != nil {
		return Peer{}, true, fmt.Errorf("ask who is at the other end of the socket: %w", gerr)
	}
	return Peer{cred.Uid, cred.Pid}, true, nil
}

// socket removes its file when it is closed, if it is still its own.
type socket struct {
	*net.UnixListener
	path string
	ino  uint64
}

func (s *socket) Close() error {
	if ino, err := inode(s.path); err == nil && ino == s.ino {
		os.Remove(s.path)
	}
	return s.UnixListener.Close()
}

func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// listenUnix listens at path, for root only. It binds beside it and renames, so that nobody finds the socket with another mode, and a
// dead daemon's socket is replaced in one step.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of socket %s: %w", path, err)
	}
	if err := unused(ctx, path); err != nil {
		return nil, err
	}
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	beside := filepath.Join(filepath.Dir(path), "."+hex.EncodeToString(random[:]))
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", beside)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false)
	if err := publish(beside, path); err != nil {
		ul.Close()
		os.Remove(beside)
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	ino, err := inode(path)
	if err != nil {
		ul.Close()
		return nil, fmt.Errorf("listen on socket %s: %w", path, err)
	}
	return &socket{ul, path, ino}, nil
}

func publish(beside, path string) error {
	if err := os.Chmod(beside, 0o600); err != nil {
		return err
	}
	return os.Rename(beside, path)
}

// unused makes sure that nobody listens at path and that what is there, if anything, is a socket.
func unused(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at socket %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fault.New(fault.Invalid, "%s is there and is no socket; remove it or choose another path", path)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
		return fault.New(fault.Busy, "socket %s is in use: another daemon listens there", path)
	}
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("look at socket %s: %w", path, err)
}

func inode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}
