package vm

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bootPatience is how long the guest may take to come up: 10 s by itself, much longer on a busy machine.
const bootPatience = 180 * time.Second

// silencePatience is how long the guest may say nothing after that: longer than a test waits for anything, such as the kernel for a server that
// does not answer.
const silencePatience = 180 * time.Second

// tailSize is how much of what the kernel said is shown when it goes wrong.
const tailSize = 8 << 10

// Machine is a running guest.
type Machine struct {
	Kernel  string // its version
	console string // file with what the kernel says
	in      io.Writer
	lines   chan string
	gone    error // once it has failed
}

// Boot builds what the guest is to run, starts it and waits until it is up; the caller has a Slot. It is killed at the end of the test, and what its kernel said last is shown when that failed.
func Boot(t testing.TB, c Config) *Machine {
	t.Helper()
	root, initrd := rootDisk(t), initramfs(t, c)
	m := start(t, c, initrd, root)
	m.Kernel = m.await(t, "guest: up ", bootPatience)
	return m
}

// Done waits until the guest has nothing left to do; every case must have been run.
func (m *Machine) Done(t testing.TB) {
	t.Helper()
	m.await(t, "guest: done", silencePatience)
	m.tell(t, "end")
}

// arguments are those of the emulator.
func arguments(c Config, initrd, root, console string) []string {
	memory := c.Memory
	if memory == 0 {
		memory = 1024
	}
	disk := func(file, options string) string { return "if=virtio,format=raw,cache=unsafe,file=" + file + options }
	args := []string{"-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", strconv.Itoa(memory), "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "file:" + console, "-serial", "stdio", "-kernel", filepath.Join(Cache(), "kernel/vmlinux"), "-initrd", initrd,
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic no_timer_check cryptomgr.notests mitigations=off", "-drive", disk(filepath.Join(Cache(), "debian.squashfs"), ",readonly=on"),
		"-drive", disk(root, ",snapshot=on")}
	if c.Net != nil {
		args = append(args, "-netdev", "tap,id=n0,ifname="+c.Net.Tap+",script=no,downscript=no", "-device", "virtio-net-pci,netdev=n0,romfile=")
	}
	return args
}

func start(t testing.TB, c Config, initrd, root string) *Machine {
	t.Helper()
	m := &Machine{console: filepath.Join(t.TempDir(), "console"), lines: make(chan string, 64)}
	cmd := exec.Command("qemu-system-x86_64", arguments(c, initrd, root, m.console)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if m.in, err = cmd.StdinPipe(); err != nil {
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
	return m
}

// read passes the lines of the guest on until it ends.
func (m *Machine) read(out io.Reader) {
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

// tell says a line to the guest's run script.
func (m *Machine) tell(t testing.TB, line string) {
	t.Helper()
	if _, err := io.WriteString(m.in, line+"\n"); err != nil {
		t.Fatalf("the guest takes no orders any more: %v", err)
	}
}

// next gives the next line. Once that has failed it fails always.
func (m *Machine) next(patience time.Duration) (string, error) {
	if m.gone != nil {
		return "", m.gone
	}
	line, err := m.line(patience)
	m.gone = err
	return line, err
}

func (m *Machine) line(patience time.Duration) (string, error) {
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
func (m *Machine) await(t testing.TB, prefix string, patience time.Duration) string {
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
func (m *Machine) tail() string {
	data, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	return "the kernel's last words:\n" + string(data[max(0, len(data)-tailSize):])
}
