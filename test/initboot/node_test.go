//go:build guest

package initboot

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/initramfs"
	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/test/vm"
)

// patience is for a machine on which much else runs.
const patience = 4 * time.Minute

// node is a guest.
type node struct {
	t       *testing.T
	in      io.Writer
	api     string // where its API can be reached
	qemu    string // socket of the emulator's monitor
	exited  chan struct{}
	mu      sync.Mutex
	console bytes.Buffer
	more    chan struct{} // closed when there is more
}

// programs builds windlass and its shim and gives their directory.
func programs(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin+"/", "../../cmd/windlass", "../../cmd/windlass-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// image builds the initramfs that most tests boot, with busybox as the shell.
func image(t *testing.T, bin string, more ...func(*initramfs.Options)) string {
	t.Helper()
	kernel := filepath.Join(vm.Cache(), "kernel")
	o := initramfs.Options{Windlass: bin + "/windlass", Shim: bin + "/windlass-shim", Kernel: kernel + "/vmlinuz",
		Modules: kernel, Preset: kmod.Minimal, Module: []string{"bonding", "8021q"}, Compress: initramfs.None,
		Files: []initramfs.File{{From: "/bin/busybox", To: "bin/busybox"}}}
	for _, m := range more {
		m(&o)
	}
	p, err := initramfs.Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "initramfs.img")
	if _, err := p.Write(t.Context(), file, nil); err != nil {
		t.Fatal(err)
	}
	return file
}

func freePort(t *testing.T) int {
	t.Helper()
	l := listen(t, "127.0.0.1:0")
	defer l.Close()
	return port(l)
}

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

func (n *node) read(out io.Reader) {
	defer close(n.exited)
	r := bufio.NewReader(out)
	buf := make([]byte, 4096)
	for {
		c, err := r.Read(buf)
		n.mu.Lock()
		n.console.Write(buf[:c])
		close(n.more)
		n.more = make(chan struct{})
		n.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (n *node) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.ReplaceAll(n.console.String(), "\r", "")
}

// await waits until the console shows all of the texts.
func (n *node) await(texts ...string) {
	n.t.Helper()
	late := time.After(patience)
	for {
		n.mu.Lock()
		more := n.more
		n.mu.Unlock()
		missing := ""
		for _, text := range texts {
			if !strings.Contains(n.text(), text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-more:
		case <-n.exited:
			if !strings.Contains(n.text(), missing) {
				n.t.Fatalf("the guest has ended without %q", missing)
			}
		case <-late:
			n.t.Fatalf("the console does not show %q", missing)
		}
	}
}

// types types a line on the console, as a person would.
func (n *node) types(line string) {
	n.t.Helper()
	if _, err := io.WriteString(n.in, line+"\n"); err != nil {
		n.t.Fatal(err)
	}
}

// ends waits until the guest has switched itself off or begins anew.
func (n *node) ends() {
	n.t.Helper()
	select {
	case <-n.exited:
	case <-time.After(patience):
		n.t.Fatal("the guest does not end")
	}
}

// get asks the API of the node and gives the answer; what is neither 200 nor 201 is an error.
func (n *node) get(path string) (string, error) { return n.send(http.MethodGet, path, "") }

func (n *node) send(method, path, body string) (string, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.api+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusCreated {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return string(text), err
}

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// squashfs makes an image of a directory.
func squashfs(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.squashfs")
	if out, err := exec.Command("mksquashfs", dir, file, "-quiet", "-no-progress").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}
