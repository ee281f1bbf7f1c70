//go:build lab

package lab

import (
	"bufio"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/test/vm"
)

// markVar marks the processes of a lab within the lab.
const markVar = "WINDLASS_LAB_MARK"

// nested is a lab that runs within this one, as a program, in namespaces of its own.
type nested struct {
	cmd   *exec.Cmd
	out   io.Reader
	mark  string
	tmp   string
	ended chan error
}

// startNested starts a lab for one package.
func startNested(t *testing.T, pkg string) *nested {
	t.Helper()
	n := &nested{mark: rand.Text(), tmp: t.TempDir(), ended: make(chan error, 1)}
	n.cmd = exec.Command("/proc/self/exe", "-test.run=^TestLab$", "-test.v")
	n.cmd.Env = append(os.Environ(), packagesVar+"="+pkg, testsVar+"=", markVar+"="+n.mark, keepVar+"=", "TMPDIR="+n.tmp)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	n.out, n.cmd.Stdout, n.cmd.Stderr = r, w, w
	err = n.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() { n.ended <- n.cmd.Wait() }()
	t.Cleanup(func() { _ = n.cmd.Process.Kill(); r.Close() })
	return n
}

// until reads what it says up to a line with the words, and gives all that was read; without them, to the end.
func (n *nested) until(t *testing.T, words string) string {
	t.Helper()
	var said strings.Builder
	lines := bufio.NewReader(n.out)
	for {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		switch {
		case words != "" && strings.Contains(line, words):
			return said.String()
		case err == io.EOF && words == "":
			return said.String()
		case err != nil:
			t.Fatalf("a lab within the lab never said %q: %v\n%s", words, err, said.String())
		}
	}
}

// processes gives the command lines of its processes.
func (n *nested) processes(t *testing.T) (list []string) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		env, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(env), markVar+"="+n.mark) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		if err == nil {
			list = append(list, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return list
}

// TestKilled kills a lab while its guest runs a test, and looks for what is left: processes, interfaces, mounts and files.
func TestKilled(t *testing.T) {
	t.TempDir() // is no trace
	before := traces(t)
	n := startNested(t, "test/lab/selftest")
	n.until(t, "/TestControl")
	running := n.processes(t)
	for _, program := range []string{"qemu-system", "ceph-mon", "ceph-osd", "tgtd", "ganesha", "rpcbind"} {
		if !slices.ContainsFunc(running, func(p string) bool { return strings.Contains(p, program) }) {
			t.Errorf("%s is not among what runs, so that it is gone means nothing: %q", program, running)
		}
	}
	if err := n.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-n.ended
	n.until(t, "") // all that could write there have ended
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left := n.processes(t)
		if len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("left when the lab was killed: %q", left)
		}
	}
	if after := traces(t); after != before {
		t.Errorf("before the lab was killed:\n%s\nafter it:\n%s", before, after)
	}
	if left, err := os.ReadDir(n.tmp); err != nil || len(left) > 0 {
		t.Errorf("left among the temporary files: %v, %v", left, err)
	}
}

// traces are the interfaces, the mounts and what lies where a lab may leave something.
func traces(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, file := range []string{"/proc/net/dev_mcast", "/proc/self/mountinfo"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	for _, dir := range []string{"/run", "/sys/class/net", "/var/lib/ceph", "/var/lib/nfs", vm.Cache(), dir()} {
		entries, err := os.ReadDir(dir)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			b.WriteString(dir + "/" + e.Name() + "\n")
		}
	}
	return b.String()
}

// TestPanic holds that a guest whose kernel panics fails the test at once, and that the kernel's words are shown.
func TestPanic(t *testing.T) {
	n := startNested(t, "test/lab/selftest/panics")
	said := n.until(t, "")
	if err := <-n.ended; err == nil {
		t.Errorf("the lab ended well though its guest's kernel panicked")
	}
	for _, words := range []string{"the guest has ended before its time", "Kernel panic", "sysrq", "the end of ceph/log"} {
		if !strings.Contains(said, words) {
			t.Errorf("it does not say %q:\n%s", words, said)
		}
	}
}
