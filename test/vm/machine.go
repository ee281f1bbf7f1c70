package vm

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// bootPatience is how long the guest may take to come up: 10 s by itself, much longer on a busy machine.
const bootPatience = 180 * time.Second

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
