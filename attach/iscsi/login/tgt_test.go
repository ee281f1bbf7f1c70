package login_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	initiator = "iqn.2026-01.org.example:node1"
	plain     = "iqn.2026-01.org.example:plain"
	chapped   = "iqn.2026-01.org.example:chap"
	mutual    = "iqn.2026-01.org.example:mutual"
	closed    = "iqn.2026-01.org.example:closed"

	user, password       = "alice", "secretsecret12"
	outUser, outPassword = "target", "othersecret345"
)

// tgt is a real target, stgt's tgtd, on the loopback interface.
type tgt struct {
	address string
	socket  string
	pid     int
}

// startTGT starts tgtd with four targets; it ends with the test.
func startTGT(t *testing.T) *tgt {
	t.Helper()
	for _, program := range []string{"tgtd", "tgtadm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("%v: install the package tgt (test/install.sh)", err)
		}
	}
	dir := t.TempDir()
	s := &tgt{address: freePort(t), socket: filepath.Join(dir, "ipc")}
	var log bytes.Buffer
	cmd := exec.Command("tgtd", "-f", "-t", "1", "--iscsi", "portal="+s.address)
	cmd.Env = append(os.Environ(), "TGT_IPC_SOCKET="+s.socket)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("tgtd said: %s", log.String())
		}
	})
	s.ready(t, &log)
	s.fill(t, dir)
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (s *tgt) ready(t *testing.T, log *bytes.Buffer) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := s.try("--op", "show", "--mode", "sys"); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("tgtd does not come up: %s", log.String())
		}
	}
}

func (s *tgt) try(args ...string) (string, error) {
	cmd := exec.Command("tgtadm", append([]string{"--lld", "iscsi"}, args...)...)
	cmd.Env = append(os.Environ(), "TGT_IPC_SOCKET="+s.socket)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// adm gives tgtadm an order, in words.
func (s *tgt) adm(t *testing.T, format string, args ...any) {
	t.Helper()
	order := fmt.Sprintf(format, args...)
	if out, err := s.try(strings.Fields(order)...); err != nil {
		t.Fatalf("tgtadm %s: %v: %s", order, err, out)
	}
}

func (s *tgt) fill(t *testing.T, dir string) {
	t.Helper()
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{plain, chapped, mutual, closed} {
		s.adm(t, "--op new --mode target --tid %d -T %s", i+1, name)
		s.adm(t, "--op new --mode logicalunit --tid %d --lun 1 -b %s", i+1, disk)
	}
	for _, lun := range []int{3, 300} {
		s.adm(t, "--op new --mode logicalunit --tid 1 --lun %d -b %s", lun, disk)
	}
	for _, tid := range []int{1, 2, 3} {
		s.adm(t, "--op bind --mode target --tid %d -I ALL", tid)
	}
	s.adm(t, "--op bind --mode target --tid 4 -I 192.0.2.1")
	s.adm(t, "--op new --mode account --user %s --password %s", user, password)
	s.adm(t, "--op new --mode account --user %s --password %s", outUser, outPassword)
	s.adm(t, "--op bind --mode account --tid 2 --user %s", user)
	s.adm(t, "--op bind --mode account --tid 3 --user %s", user)
	s.adm(t, "--op bind --mode account --tid 3 --user %s --outgoing", outUser)
}
