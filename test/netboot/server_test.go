//go:build guest

package netboot

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// site is the configuration of a boot server for the machines of a wire.
type site struct {
	wire
	mode  string // of the interface: dhcp, proxy or off
	words string // on the machines' command lines
}

// tftp is where the boot server listens: nowhere when another server boots the machines.
func (s site) tftp() string {
	if s.mode == "off" {
		return "off"
	}
	return s.addr() + ":69"
}

// write makes the file.
func (s site) write(t *testing.T) string {
	t.Helper()
	var list strings.Builder
	for n := range machines {
		fmt.Fprintf(&list, "  - {name: n%d, mac: %q, ip: %s, group: compute}\n", n, s.mac(n), s.ip(n))
	}
	text := fmt.Sprintf(`
state_dir: state
http: {listen: "%[1]s:8080"}
tftp: {listen: %[2]q}
interfaces:
  - {name: %[3]s, mode: %[4]s, empty_ra: true}
subnets:
  - {subnet: %[8]s, router: %[1]s, lease_time: 10m}
files: %[5]s/files
images: %[5]s/images
ipxe: {dir: /usr/lib/ipxe}
groups:
  compute:
    kernel: vmlinuz
    initramfs: [initramfs.img]
    command_line: >-
      console=ttyS0 loglevel=4 panic=-1 no_timer_check cryptomgr.notests mitigations=off
      windlass.api=http://0.0.0.0:8080 windlass.api.insecure %[6]s
nodes:
%[7]s`, s.addr(), s.tftp(), s.device(), s.mode, dir, s.words, &list, s.subnet())
	path := filepath.Join(t.TempDir(), "netboot.yaml")
	write(t, path, text)
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// serve starts the boot server and waits until it answers. It gives what ends it, which the end of the test does otherwise.
func (s site) serve(t *testing.T) (end func()) {
	t.Helper()
	return serve(t, s.write(t))
}

// serve starts a boot server by its configuration.
func serve(t *testing.T, config string) (end func()) {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	end = program(t, windlass, "netboot", "serve", "-f", config, "--ready-file", ready)
	within(t, "the boot server is ready", func() bool { _, err := os.Stat(ready); return err == nil })
	return end
}

// export writes what another server needs into a new directory.
func (s site) export(t *testing.T, format string) (out string) {
	t.Helper()
	out = filepath.Join(t.TempDir(), format)
	s.mode = "dhcp"
	if err := order(windlass, "netboot", "export", "-f", s.write(t), "--format", format, "--url", s.url(), "--to", out); err != nil {
		t.Fatal(err)
	}
	return out
}

// program starts a server, which ends with the test unless it is ended before; what it said is shown when that failed.
func program(t *testing.T, args ...string) (end func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: install what test/install.sh does", err)
	}
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		log.Close()
	})
	t.Cleanup(func() {
		end()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("%s said:\n%s", filepath.Base(args[0]), text[max(0, len(text)-8<<10):])
		}
	})
	return end
}

// dnsmasq starts one in the foreground.
func dnsmasq(t *testing.T, args ...string) {
	t.Helper()
	program(t, append([]string{"dnsmasq", "-d", "--log-dhcp", "--user=root", "--pid-file=", "--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases")}, args...)...)
}

// plainDnsmasq gives addresses to the machines of a wire, and does what is said besides.
func (w wire) plainDnsmasq(t *testing.T, more ...string) {
	t.Helper()
	args := []string{"-C", "/dev/null", "--port=0", "--no-ping", "--interface=" + w.device(), "--bind-interfaces", "--dhcp-range=" + w.base() + ",static,255.255.255.0,10m"}
	for n := range machines {
		args = append(args, fmt.Sprintf("--dhcp-host=%s,%s", w.mac(n), w.ip(n)))
	}
	dnsmasq(t, append(args, more...)...)
}

// ask has the boot server answer as JSON.
func (w wire) ask(t *testing.T, path string, to any) {
	t.Helper()
	resp, err := http.Get(w.url() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
}

// status asks the boot server how far the machine has come.
func (m *machine) status() nodes.Status {
	m.t.Helper()
	var all []nodes.Status
	m.wire.ask(m.t, "/nodes", &all)
	for _, s := range all {
		if s.MAC == m.mac {
			return s
		}
	}
	m.t.Fatalf("the boot server does not know %s: %+v", m.mac, all)
	return nodes.Status{}
}

// failed waits until the boot server has been told of a failure in a stage, with a text that matches.
func (m *machine) failed(stage, text string) {
	m.t.Helper()
	like := regexp.MustCompile(text)
	m.within(fmt.Sprintf("the boot server knows that %s failed: %s", stage, text), func() bool {
		var all []nodes.Event
		m.wire.ask(m.t, "/events?mac="+m.mac, &all)
		return slices.ContainsFunc(all, func(e nodes.Event) bool {
			return string(e.Stage) == stage && e.Error != "" && like.MatchString(e.Error)
		})
	})
}

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so within %s: %s", patience, what)
		}
	}
}
