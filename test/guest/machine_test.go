//go:build guest

package guest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bootPatience is how long the guest may take to come up: 10 s by itself, much longer on a busy machine.
const bootPatience = 120 * time.Second

// silencePatience is how long the guest may say nothing after that: longer than a test waits for anything.
const silencePatience = 100 * time.Second

// tailSize is how much of what the kernel said is shown when it goes wrong.
const tailSize = 8 << 10

// machine is a running guest.
type machine struct {
	console string // file with what the kernel says
	lines   chan string
	kernel  string // its version
}

// boot starts the guest and waits until it is up. It is killed at the end of the test.
func boot(t *testing.T, initrd string) *machine {
	t.Helper()
	onlyOne(t)
	dir := t.TempDir()
	m := &machine{console: filepath.Join(dir, "console"), lines: make(chan string, 64)}
	root := filepath.Join(dir, "root")
	must(t, nil, "truncate", "-s", "3G", root)
	// Under the lock of test/rootfs.sh, which may be making the tree anew.
	must(t, nil, "flock", "--shared", filepath.Join(cacheDir(), "lock"), "mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", "-O", "^has_journal", "-d", filepath.Join(cacheDir(), "debian-rootfs"), root)
	disk := func(file, options string) string { return "if=virtio,format=raw,cache=unsafe,file=" + file + options }
	cmd := exec.Command("qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024", "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "file:"+m.console, "-serial", "stdio", "-kernel", filepath.Join(cacheDir(), "kernel/vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 no_timer_check mitigations=off", "-drive", disk(filepath.Join(cacheDir(), "debian.squashfs"), ",readonly=on"),
		"-drive", disk(root, ""))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: install Debian's qemu-system-x86, as test/install.sh does", err)
	}
	go m.read(out)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.tail())
		}
		_ = cmd.Process.Kill()
		for range m.lines { // so that the reader ends
		}
		_ = cmd.Wait()
		if stderr.Len() > 0 {
			t.Logf("qemu: %s", stderr.String())
		}
	})
	m.kernel = m.await(t, "guest: up ", bootPatience)
	return m
}

// onlyOne waits until no other guest runs on this machine.
func onlyOne(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(cacheDir(), "guest.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

// read passes the lines of the guest on until it ends.
func (m *machine) read(out io.Reader) {
	defer close(m.lines)
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			m.lines <- line
		}
		if err != nil {
			return
		}
	}
}

// next gives the next line.
func (m *machine) next(patience time.Duration) (string, error) {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case line, ok := <-m.lines:
		switch {
		case !ok:
			return "", errors.New("the guest has ended before its time")
		case strings.HasPrefix(line, "guest: failed: "):
			return "", errors.New(strings.TrimSpace(line))
		}
		return line, nil
	case <-late.C:
		return "", fmt.Errorf("the guest has said nothing for %s", patience)
	}
}

// await reads up to the line that begins with prefix and gives the rest of that.
func (m *machine) await(t *testing.T, prefix string, patience time.Duration) string {
	t.Helper()
	for {
		line, err := m.next(patience)
		if err != nil {
			t.Fatalf("waiting for %q: %v", prefix, err)
		}
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(rest)
		}
	}
}

// tail is the last that the kernel said.
func (m *machine) tail() string {
	data, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	return "the kernel's last words:\n" + string(data[max(0, len(data)-tailSize):])
}
