package unixsock

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type message struct {
	N    int
	Text string
}

func pair(t *testing.T) (client, server *Conn) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 200)) // longer than a socket address
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v", st.Mode(), err)
	}
	if client, err = Dial(path); err != nil {
		t.Fatal(err)
	}
	if server, err = Accept(l); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func TestMessagesAndFiles(t *testing.T) {
	client, server := pair(t)
	if uid, err := server.PeerUID(); err != nil || int(uid) != os.Geteuid() {
		t.Errorf("peer %d %v", uid, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	large := strings.Repeat("x", 1<<20)
	go func() {
		_ = client.Send(message{1, "first"})
		_ = client.Send(message{2, large}, w)
		_ = client.Send(message{3, "last"})
		w.Close()
		client.Close()
	}()
	for i := 1; i <= 3; i++ {
		var m message
		files, err := server.Receive(&m)
		if err != nil || m.N != i || (i == 2) != (len(files) == 1) || i == 2 && m.Text != large {
			t.Fatalf("message %d: %d, %d bytes, %d files, %v", i, m.N, len(m.Text), len(files), err)
		}
		for _, f := range files {
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Error("a file that came would leak into a child")
			}
			_, _ = f.WriteString("through the pipe")
			f.Close()
		}
	}
	if b, _ := io.ReadAll(r); string(b) != "through the pipe" {
		t.Errorf("the pipe gave %q", b)
	}
	if _, err := server.Receive(&message{}); !errors.Is(err, io.EOF) {
		t.Errorf("the end: %v", err)
	}
}

func TestEndless(t *testing.T) {
	client, server := pair(t)
	go func() {
		chunk := []byte(strings.Repeat("x", 1<<16))
		for {
			if _, err := client.f.Write(chunk); err != nil {
				return
			}
		}
	}()
	if _, err := server.Receive(&message{}); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("got %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	if _, err := Dial(path); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no socket: %v", err)
	}
	for range 2 { // a socket left behind is replaced
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	if _, err := Dial(path); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a dead socket: %v", err)
	}
}

func TestDeadline(t *testing.T) {
	_, server := pair(t)
	if err := server.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Receive(&message{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
