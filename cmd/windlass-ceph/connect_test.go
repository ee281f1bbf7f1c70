//go:build ceph

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/swagger/models"
)

// keyring writes a keyring for a user.
func (l *lab) keyring(user, key string) string {
	l.Helper()
	path := filepath.Join(l.dir, user+".keyring")
	if err := os.WriteFile(path, []byte(fmt.Sprintf("[%s]\n\tkey = %s\n", user, key)), 0o600); err != nil {
		l.Fatal(err)
	}
	return path
}

// testConnect: whatever keeps it from the cluster is said, with what to do.
func testConnect(l *lab) {
	list := []string{"list", "rbd:rbd"}
	with := func(more ...string) []string { return append(list, more...) }
	key, err := l.ceph.Key(l.ctx, "client.admin")
	if err != nil {
		l.Fatal(err)
	}
	good, bad := l.keyring("client.admin", key), l.keyring("client.bad", "AQDuGVphzYgwEhAApSGP5iVIuMDwqZw3sKf4mQ==")
	wrong := filepath.Join(l.dir, "wrong.keyring")
	if err := os.WriteFile(wrong, []byte("[client.admin]\n\tkey = AQDuGVphzYgwEhAApSGP5iVIuMDwqZw3sKf4mQ==\n"), 0o600); err != nil {
		l.Fatal(err)
	}
	l.run(1, with("--keyring", wrong), "10.99.0.1", "refuses the key of client.admin", "ceph auth get client.admin")
	l.run(1, with("--name", "client.bad", "--keyring", bad), "refuses the key of client.bad, or knows no such user")
	l.run(2, with("--name", "nobody", "--keyring", good), "no key of client.nobody was found", "--keyring")
	l.run(2, with("--keyring", filepath.Join(l.dir, "missing")), "read the keyring", "no such file")
	l.run(2, with("--conf", filepath.Join(l.dir, "missing")), "read Ceph's configuration", "CEPH_CONF")
	began := time.Now()
	l.run(5, with("--monitors", "10.99.0.99", "--timeout", "2s"), "no monitor of 10.99.0.99 has let client.admin in within 2s", "--timeout")
	if took := time.Since(began); took > 20*time.Second {
		l.Errorf("it gave up after %v", took)
	}
	l.run(2, with("--timeout", "-1s"), "cannot be negative")
	l.run(3, []string{"list", "rbd:nowhere"}, "no such pool", "there are: rbd")
	l.run(2, []string{"list", "rbd:rbd/x/y"}, "is no pool and no namespace")

	// Without any configuration, by flags alone.
	p := l.program("windlass-ceph", with("--monitors", "10.99.0.1:6789", "--keyring", good)...)
	p.cmd.Env = append(p.cmd.Env, "CEPH_CONF=")
	if code := p.start().wait(); code != 0 || !strings.Contains(p.out.String(), "IMAGE") {
		l.Errorf("by flags alone: exit code %d, %s%s", code, p.out.String(), p.err.String())
	}
	p = l.program("windlass-ceph", list...)
	p.cmd.Env = append(p.cmd.Env, "CEPH_CONF=")
	if code := p.start().wait(); code != 2 || !strings.Contains(p.err.String(), "no monitors are known") {
		l.Errorf("without any configuration: exit code %d, %s", code, p.err.String())
	}
}

// testConnectInterrupted: who waits for a cluster that does not answer can be interrupted.
func testConnectInterrupted(l *lab) {
	if err := l.ceph.Signal(l.ctx, "mon", unix.SIGSTOP); err != nil {
		l.Fatal(err)
	}
	defer func() {
		if err := l.ceph.Signal(l.ctx, "mon", unix.SIGCONT); err != nil {
			l.Error(err)
		}
	}()
	p := l.program("windlass-ceph", "list", "rbd:rbd", "--timeout", "5m").start()
	late := time.After(20 * time.Second)
	for connected := false; !connected; { // it has a connection to the monitor, which says nothing
		out, err := exec.Command("ss", "-Htnp", "state", "established").Output()
		if err != nil {
			l.Fatal(err)
		}
		connected = strings.Contains(string(out), fmt.Sprintf("pid=%d,", p.cmd.Process.Pid))
		select {
		case <-late:
			l.Fatal("it does not connect")
		default:
		}
	}
	began := time.Now()
	p.signal(unix.SIGINT)
	if code := p.wait(); code != exitInterrupted || time.Since(began) > 10*time.Second {
		l.Errorf("exit code %d after %v: %s", code, time.Since(began), p.err.String())
	}
}

// testReadOnlyUser: a node's key lists and publishes nothing.
func testReadOnlyUser(l *lab) {
	key, err := l.ceph.User(l.ctx, "client.node", "mon", "profile rbd", "osd", "profile rbd-read-only pool=rbd")
	if err != nil {
		l.Fatal(err)
	}
	as := []string{"--name", "client.node", "--keyring", l.keyring("client.node", key)}
	path := l.small("readonly", "ro")
	l.run(1, append([]string{"publish", path, "rbd:rbd/readonly"}, as...), "make image rbd:rbd/readonly.windlass-part-", "not permitted", "osd 'profile rbd pool=POOL'")
	l.run(0, append([]string{"list", "rbd:rbd"}, as...))
	l.only("readonly")
	l.run(0, []string{"publish", path, "rbd:rbd/readonly"})
	l.run(1, append([]string{"remove", "rbd:rbd/readonly", "--force"}, as...), "not permitted")
	l.holds("rbd/readonly@v1", path)
}

// testPublisher: the capabilities of docs/ceph.md are enough for everything.
func testPublisher(l *lab) {
	key, err := l.ceph.User(l.ctx, "client.publisher", "mon", "profile rbd", "osd", "profile rbd pool=rbd")
	if err != nil {
		l.Fatal(err)
	}
	as := []string{"--name", "client.publisher", "--keyring", l.keyring("client.publisher", key)}
	path := l.small("publisher", "p")
	with := func(args ...string) []string { return append(args, as...) }
	if p := l.run(0, with("publish", path, "rbd:rbd/publisher")); !strings.Contains(p.out.String(), "\"10.99.0.1\"") {
		l.Errorf("nodes are not told the monitors: %s", p.out.String())
	}
	l.run(0, with("publish", path, "rbd:rbd/publisher", "--replace", "--remove-replaced"))
	l.run(0, with("list", "rbd:rbd"))
	l.hold("publisher", "", true)
	l.run(0, with("remove", "rbd:rbd/publisher", "--force", "--evict"))
	l.only("publisher")
}

// testList: a table for people, with what others have made, too.
func testList(l *lab) {
	l.rbd("create", "--size", "8M", "rbd/listed-foreign")
	l.rbd("image-meta", "set", "rbd/listed-foreign", "windlass.publisher", "evil\x1b[31m\nname")
	l.run(0, []string{"publish", l.small("listed", "x"), "rbd:rbd/listed@v3"})
	p := l.run(0, []string{"list", "rbd:rbd"})
	var rows []string
	for line := range strings.Lines(p.out.String()) {
		if strings.HasPrefix(line, "listed") || strings.HasPrefix(line, "IMAGE") {
			rows = append(rows, strings.Join(strings.Fields(line), " "))
		}
	}
	if len(rows) != 3 || !strings.HasPrefix(rows[0], "IMAGE STATE SIZE HOLDS FEATURES SNAPSHOTS WRITERS PUBLISHED BY DIGEST") ||
		!strings.HasPrefix(rows[1], "listed published 20KiB squashfs layering v3* - 20") || !strings.Contains(rows[1], " sha256:") ||
		!strings.HasPrefix(rows[2], "listed-foreign foreign 8MiB - layering - - - evil?[31m name -") {
		l.Errorf("%q", rows)
	}
	if strings.ContainsRune(p.out.String(), 0x1b) {
		l.Error("what others have written reaches the terminal as it is")
	}
}

// testTerminal: there is a bar, which is gone at the end.
func testTerminal(l *lab) {
	master, slave := openPTY(l.T)
	p := l.program("windlass-ceph", "publish", l.file("tty", "tty", 64<<20, 4<<20, 4<<20), "rbd:rbd/tty")
	p.cmd.Stderr = slave
	p.start()
	slave.Close()
	text, _ := io.ReadAll(master) // EIO at the end
	if code := p.wait(); code != 0 {
		l.Errorf("exit code %d: %s", code, text)
	}
	for _, want := range []string{"[------------------------] writing  0 %", "[########################] writing  100 %", "] verifying  100 %, 64MiB of 64MiB"} {
		if !strings.Contains(string(text), want) {
			l.Errorf("%q is not in %q", want, text)
		}
	}
	if !strings.HasSuffix(string(text), "\r\x1b[K") {
		l.Errorf("the bar is not taken away: %q", text)
	}
}

func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// TestIPv6: the addresses that nodes are told are those that they can use.
func TestIPv6(t *testing.T) {
	l := start(t, "fd99::1")
	p := l.run(0, []string{"publish", l.small("six", "six"), "rbd:rbd/six"})
	var m models.Mount
	if err := json.Unmarshal([]byte(p.out.String()[strings.Index(p.out.String(), "{"):]), &m); err != nil {
		t.Fatal(err)
	}
	if got := m.Attach.Attach.Rbd.Monitors; len(got) != 1 || got[0] != "[fd99::1]" {
		t.Errorf("nodes are told %q", got)
	}
	l.run(0, []string{"list", "rbd:rbd", "--monitors", "[fd99::1]:3300"})
}

// TestHelp: every verb has examples, and they are right as far as the command line goes.
func TestHelp(t *testing.T) {
	a := &app{out: io.Discard, err: io.Discard, env: os.LookupEnv}
	root := a.root()
	for _, cmd := range root.Commands() {
		if cmd.Runnable() && cmd.Example == "" && cmd.Name() != "help" && cmd.Name() != "completion" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			words := strings.Fields(line)
			found, rest, err := root.Find(words[1:])
			if err != nil || found != cmd {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%q: %v", line, err)
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%q: %v", line, err)
			}
		}
	}
}
