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
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// site is the configuration of a boot server for two machines.
type site struct {
	mode  string // of the interface: dhcp, proxy or off
	words string // on the machines' command lines
	more  string // further keys
}

// write makes the file.
func (s site) write(t *testing.T) string {
	t.Helper()
	text := fmt.Sprintf(`
state_dir: state
interfaces:
  - {name: %s, mode: %s, empty_ra: true}
subnets:
  - {subnet: 10.77.0.0/24, router: %s, lease_time: 10m}
files: %s/files
images: %[4]s/images
ipxe: {dir: /usr/lib/ipxe}
groups:
  compute:
    kernel: vmlinuz
    initramfs: [initramfs.img]
    command_line: >-
      console=ttyS0 loglevel=4 panic=-1 no_timer_check cryptomgr.notests mitigations=off
      windlass.api=http://0.0.0.0:8080 windlass.api.insecure %s
nodes:
  - {name: n0, mac: "52:54:00:77:00:00", ip: 10.77.0.10, group: compute}
  - {name: n1, mac: "52:54:00:77:00:01", ip: 10.77.0.11, group: compute}
%s`, wire, s.mode, serverAddr, dir, s.words, s.more)
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

// serve starts the boot server and waits until it answers.
func (s site) serve(t *testing.T) {
	t.Helper()
	config := s.write(t)
	ready := filepath.Join(filepath.Dir(config), "ready")
	program(t, windlass, "netboot", "serve", "-f", config, "--ready-file", ready)
	within(t, "the boot server is ready", func() bool { _, err := os.Stat(ready); return err == nil })
}

// program starts a server, which ends with the test; what it said is shown when that failed.
func program(t *testing.T, args ...string) {
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
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		log.Close()
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("%s said:\n%s", filepath.Base(args[0]), text[max(0, len(text)-8<<10):])
		}
	})
}

// ask has the boot server answer as JSON.
func ask(t *testing.T, path string, to any) {
	t.Helper()
	resp, err := http.Get(webURL + path)
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

// status asks the boot server how far a machine has come.
func status(t *testing.T, mac string) nodes.Status {
	t.Helper()
	var all []nodes.Status
	ask(t, "/nodes", &all)
	for _, s := range all {
		if s.MAC == mac {
			return s
		}
	}
	t.Fatalf("the boot server does not know %s: %+v", mac, all)
	return nodes.Status{}
}

// reported asks the boot server whether a machine has told it of a failure.
func reported(t *testing.T, mac, stage, text string) bool {
	t.Helper()
	var all []nodes.Event
	ask(t, "/events?mac="+mac, &all)
	return slices.ContainsFunc(all, func(e nodes.Event) bool { return string(e.Stage) == stage && strings.Contains(e.Error, text) })
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
