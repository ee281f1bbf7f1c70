package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// boots writes a small configuration of a boot server and gives its path.
func boots(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"files/vmlinuz": "kernel", "ipxe/undionly.kpxe": "program", "netboot.yaml": `
state_dir: state
http: {listen: "127.0.0.1:0"}
tftp: {listen: "off"}
files: files
ipxe: {dir: ipxe}
groups: {compute: {kernel: vmlinuz, command_line: "console=ttyS0"}}
nodes: [{name: n1, mac: "52:54:00:00:00:01", ip: 10.1.0.11, group: compute}]
` + more} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "netboot.yaml")
}

// local runs a command that needs no daemon.
func local(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = Run(append([]string{"windlass"}, args...), strings.NewReader(""), &o, &e, Options{Env: func(string) (string, bool) { return "", false }})
	return code, o.String(), e.String()
}

func TestNetbootConfigCheck(t *testing.T) {
	code, out, errs := local("netboot", "config", "check", boots(t, ""))
	if code != 0 || !strings.Contains(out, "# OK") || !strings.Contains(out, "console=ttyS0 BOOTIF=01-52-54-00-00-00-01 windlass.report=http://SERVER/report") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, out, _ := local("netboot", "config", "check", "-o", "json", boots(t, "")); code != 0 || !strings.Contains(out, `"command_line": "console=ttyS0`) {
		t.Errorf("%d %s", code, out)
	}
	code, _, errs = local("netboot", "config", "check", boots(t, "unknwon: x\nimages: 7\n"))
	if code != exitUsage || !strings.Contains(errs, "unknown field unknwon (did you mean unknown?)") || !strings.Contains(errs, "images: must be text") {
		t.Errorf("%d %s", code, errs)
	}
	file := boots(t, "images: none\n")
	if code, _, errs = local("netboot", "config", "check", file); code != exitUsage || !strings.Contains(errs, "none: no such file") || !strings.Contains(errs, "--elsewhere") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs = local("netboot", "config", "check", "--elsewhere", file); code != 0 {
		t.Errorf("%d %s", code, errs)
	}
	if code, out, errs = local("netboot", "config", "check", "-f", boots(t, "")); code != 0 || !strings.Contains(out, "# OK") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs = local("netboot", "config", "check", "-f", file, file); code != exitUsage || !strings.Contains(errs, "one configuration") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs = local("netboot", "config", "check", "/none/netboot.yaml"); code != exitNotFound {
		t.Errorf("%d %s", code, errs)
	}
}

func TestNetbootExport(t *testing.T) {
	to := filepath.Join(t.TempDir(), "out")
	code, out, errs := local("netboot", "export", "-f", boots(t, ""), "--format", "dnsmasq", "--url", "http://head/boot/", "--to", to)
	if code != 0 || out != "4 files are in "+to+"\n" {
		t.Errorf("%d %s %s", code, out, errs)
	}
	conf, err := os.ReadFile(filepath.Join(to, "dnsmasq.conf"))
	if err != nil || !strings.Contains(string(conf), "tftp-root="+to+"/tftp\n") {
		t.Errorf("%v %s", err, conf)
	}
	if code, out, errs = local("netboot", "export", "-f", boots(t, ""), "--format", "ipxe", "--url", "http://head/boot"); code != 0 || !strings.Contains(out, "kernel --name BOOT_IMAGE=vmlinuz http://head/boot/files/vmlinuz console=ttyS0") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, _, errs = local("netboot", "export", "-f", boots(t, ""), "--format", "pxelinux"); code != exitUsage || !strings.Contains(errs, "--url") {
		t.Errorf("without a URL: %d %s", code, errs)
	}
	for _, url := range []string{"head", "http://h?x=1", "ftp://h/"} {
		if code, _, errs = local("netboot", "export", "-f", boots(t, ""), "--format", "ipxe", "--url", url); code != exitUsage || !strings.Contains(errs, "--url") {
			t.Errorf("%s: %d %s", url, code, errs)
		}
	}
	if code, _, errs = local("netboot", "export", "-f", boots(t, ""), "--format", "grub", "--url", "http://h"); code != exitUsage || !strings.Contains(errs, "none of") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestNetbootServeAndNodes(t *testing.T) {
	file := boots(t, "")
	ready := filepath.Join(filepath.Dir(file), "ready")
	ended := make(chan int, 1)
	go func() {
		code := Run([]string{"windlass", "netboot", "serve", "-f", file, "--ready-file", ready}, strings.NewReader(""), io.Discard, io.Discard, Options{})
		ended <- code
	}()
	url := waitFile(t, ready, ended)
	code, out, errs := local("netboot", "nodes", "--server", url)
	if code != 0 || !strings.Contains(out, "n1") || !strings.Contains(out, "52:54:00:00:00:01") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	resp, err := http.Get(url + "/boot/ipxe?mac=52:54:00:00:00:01")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if code, out, errs = local("netboot", "nodes", "--server", url, "--stages", "n1"); code != 0 || !strings.Contains(out, "SCRIPT") || !strings.Contains(out, "0.0") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	code, out, errs = local("netboot", "nodes", "--server", url, "n1")
	for _, want := range []string{"name       n1\n", "group      compute\n", "stage      script done for 0s\n", "boots      1\n", "STAGE   STATE  TIME", "script  done   20"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("of one node there is no %q in: %d %s %s", want, code, out, errs)
		}
	}
	if code, out, errs = local("netboot", "nodes", "--server", url, "--summary"); code != 0 || out != "STAGE   STATE  NODES  WITH AN ERROR\nscript  done   1      0\n" {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, out, errs = local("netboot", "nodes", "--server", url, "--failed"); code != 0 || strings.Contains(out, "n1") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, out, errs = local("netboot", "nodes", "--server", url, "--watch", "--interval", "100ms", "--timeout", "1s"); code != 0 || strings.Count(out, "NAME ") < 2 {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, out, errs = local("netboot", "nodes", "--server", url, "n1", "n7"); code != exitNotFound || !strings.Contains(errs, "knows no node n7") || !strings.Contains(out, "52:54:00:00:00:01") {
		t.Errorf("%d %s %s", code, out, errs)
	}
	if code, _, errs = local("netboot", "nodes", "--server", url, "n7"); code != exitNotFound || !strings.Contains(errs, "knows no node n7") {
		t.Errorf("%d %s", code, errs)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil { // Run has taken it over
		t.Fatal(err)
	}
	if code := <-ended; code != 0 {
		t.Errorf("the server ended with %d", code)
	}
}

// waitFile waits for a file that another goroutine makes, and gives its line.
func waitFile(t *testing.T, path string, ended <-chan int) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case code := <-ended:
			t.Fatalf("it ended with %d", code)
		case <-deadline:
			t.Fatal("it is never ready")
		case <-tick.C:
			if data, err := os.ReadFile(path); err == nil {
				return strings.TrimSpace(string(data))
			}
		}
	}
}

func TestNetbootNodesOfWhatIsNoBootServer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }))
	defer s.Close()
	if code, _, errs := local("netboot", "nodes", "--server", s.URL); code != exitFailed || !strings.Contains(errs, "is no boot server") {
		t.Errorf("%d %s", code, errs)
	}
	s.Close()
	if code, _, errs := local("netboot", "nodes", "--server", s.URL); code != exitUnreachable || !strings.Contains(errs, "netboot serve") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := local("netboot", "nodes", "--server", "head"); code != exitUsage || !strings.Contains(errs, "--server") {
		t.Errorf("%d %s", code, errs)
	}
}
