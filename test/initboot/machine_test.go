//go:build guest

package initboot

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/test/vm"
)

// with is what a guest has that is not usual.
type with struct {
	years int    // that its clock is behind
	disk  string // file of a disk
	ipv6  bool   // no other address is to be had on its wire
	nic   string // its network device, virtio-net-pci when it is empty
}

// boot starts a usual guest with the words on its command line.
func boot(t *testing.T, initrd string, memory int, words ...string) *node {
	t.Helper()
	return with{}.boot(t, initrd, memory, words...)
}

func (w with) boot(t *testing.T, initrd string, memory int, words ...string) *node {
	t.Helper()
	port, monitor := freePort(t), filepath.Join(t.TempDir(), "monitor")
	line := "console=ttyS0 loglevel=4 panic=-1 no_timer_check cryptomgr.notests mitigations=off " + strings.Join(words, " ")
	cmd := exec.Command("qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", fmt.Sprint(memory), "-nodefaults", "-no-reboot",
		"-display", "none", "-serial", "stdio", "-kernel", filepath.Join(vm.Cache(), "kernel/vmlinuz"), "-initrd", initrd, "-append", line,
		"-device", cmp.Or(w.nic, "virtio-net-pci")+",netdev=n0,romfile=,mac=52:54:00:12:34:56", "-monitor", "unix:"+monitor+",server=on,wait=off")
	cmd.Args = append(cmd.Args, w.arguments(port)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	n := &node{t: t, api: fmt.Sprintf("http://127.0.0.1:%d/imageapi/v1", port), exited: make(chan struct{}), more: make(chan struct{}), qemu: monitor}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	n.in = in
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: install Debian's qemu-system-x86, as test/install.sh does", err)
	}
	go n.read(out)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-n.exited
		_ = cmd.Wait()
		if t.Failed() {
			text := n.text()
			t.Logf("the console:\n%s", text[max(0, len(text)-16<<10):])
		}
	})
	return n
}

func (w with) arguments(port int) []string {
	args := []string{"-netdev", fmt.Sprintf("user,id=n0,hostfwd=tcp:127.0.0.1:%d-:8080", port)}
	if w.ipv6 {
		args[1] = "user,id=n0,ipv4=off,ipv6=on"
	}
	if w.years > 0 {
		args = append(args, "-rtc", "base="+time.Now().UTC().AddDate(-w.years, 0, 0).Format("2006-01-02T15:04:05"))
	}
	if w.disk != "" {
		args = append(args, "-drive", "if=none,id=d0,format=raw,file="+w.disk, "-device", "virtio-blk-pci,drive=d0")
	}
	return args
}

// today is the date, as the clock of a guest must have it.
func today() string { return time.Now().UTC().Format("2006-01-02") }

// monitor has the emulator do something.
func (n *node) monitor(order string) {
	n.t.Helper()
	conn, err := net.Dial("unix", n.qemu)
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	// It shows a prompt when it is ready for an order, and another one when it has done that.
	for said, told := "", false; ; {
		b := make([]byte, 512)
		c, err := conn.Read(b)
		if err != nil {
			n.t.Fatalf("%v: %s", err, said)
		}
		switch said += string(b[:c]); {
		case !told && strings.HasSuffix(said, "(qemu) "):
			told, said = true, ""
			if _, err := io.WriteString(conn, order+"\n"); err != nil {
				n.t.Fatal(err)
			}
		case told && strings.HasSuffix(said, "\n(qemu) "):
			return
		}
	}
}
