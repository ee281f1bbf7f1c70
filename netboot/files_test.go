package netboot

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/windlass-hpc/windlass/internal/bootstage"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

const webURL = "http://10.1.0.1:8080"

// booted gives a node its address the way it gets it.
func (b *bench) booted(t *testing.T, name, mac, ip string) *node {
	t.Helper()
	n := b.node(t, name, mac)
	out := n.udhcpc(t, b)
	if !strings.Contains(out, "ip="+ip+"\n") {
		t.Fatalf("%s got\n%s", name, out)
	}
	return n
}

func TestFilesByTFTP(t *testing.T) {
	b := newBench(t)
	s := b.serve(t, b.site(t, "dhcp", "10.1.0.100", ""))
	n1 := b.booted(t, "n1", "52:54:00:00:00:01", "10.1.0.11")
	to := filepath.Join(b.dir, "got")
	for name, from := range map[string]string{"undionly.kpxe": "ipxe/undionly.kpxe", "ipxe.efi": "boot/ipxe.efi", "linux/vmlinuz": "files/linux/vmlinuz", "/base.img": "files/base.img"} {
		want, err := os.ReadFile(filepath.Join(b.dir, from))
		must(t, err)
		n1.run(t, "busybox", "tftp", "-g", "-b", "1468", "-r", name, "-l", to, "10.1.0.1")
		if got, _ := os.ReadFile(to); !bytes.Equal(got, want) {
			t.Errorf("busybox got %d bytes of %s, not what is there", len(got), name)
		}
		n1.run(t, "curl", "-sf", "--tftp-blksize", "1024", "-o", to, "tftp://10.1.0.1/"+name)
		if got, _ := os.ReadFile(to); !bytes.Equal(got, want) {
			t.Errorf("curl got %d bytes of %s, not what is there", len(got), name)
		}
	}
	for _, name := range []string{"../secret", "/../secret", "out", "linux/../../secret", `..\secret`, "/etc/passwd", "//etc/passwd", "linux", "none"} {
		os.Remove(to)
		n1.fails(t, "busybox", "tftp", "-g", "-r", name, "-l", to, "10.1.0.1")
		if got, _ := os.ReadFile(to); len(got) > 0 {
			t.Errorf("%s gave %q", name, got)
		}
	}
	must(t, os.WriteFile(to, []byte("hello"), 0o644))
	n1.fails(t, "busybox", "tftp", "-p", "-l", to, "-r", "new", "10.1.0.1")
	if _, err := os.Stat(filepath.Join(b.dir, "files/new")); err == nil {
		t.Error("a node could write a file")
	}
	s.log.wait(t, "TFTP: sent", "undionly.kpxe", "node=n1", "bytes=74213")
	s.log.wait(t, "TFTP: not sent", "level=warning")
	if st := b.status(t, n1)["n1"]; st.Stage != bootstage.Program || st.Bytes < 74213 {
		t.Errorf("the node is %+v", st)
	}
}

// status asks for the nodes, by name.
func (b *bench) status(t *testing.T, n *node) map[string]nodes.Status {
	t.Helper()
	var all []nodes.Status
	must(t, json.Unmarshal([]byte(n.run(t, "curl", "-sf", webURL+"/nodes")), &all))
	byName := map[string]nodes.Status{}
	for _, s := range all {
		byName[s.Name] = s
	}
	return byName
}

func TestFilesByHTTP(t *testing.T) {
	b := newBench(t)
	b.serve(t, b.site(t, "dhcp", "10.1.0.100", ""))
	n1 := b.booted(t, "n1", "52:54:00:00:00:01", "10.1.0.11")
	want := string(content("images/debian.sqsh", 1<<20))
	if got := n1.run(t, "curl", "-sf", webURL+"/images/debian.sqsh"); got != want {
		t.Errorf("%d bytes came, not what is there", len(got))
	}
	if got := n1.run(t, "curl", "-sf", "-r", "1000-1999", webURL+"/images/debian.sqsh"); got != want[1000:2000] {
		t.Errorf("the range holds %d bytes: %.50q", len(got), got)
	}
	if got := n1.run(t, "curl", "-sf", "-r", "-10", webURL+"/images/debian.sqsh"); got != want[len(want)-10:] {
		t.Errorf("the end is %q", got)
	}
	head := n1.run(t, "curl", "-sfI", webURL+"/images/debian.sqsh")
	for _, h := range []string{"HTTP/1.1 200", "Accept-Ranges: bytes", "Content-Length: 1048576", "X-Content-Type-Options: nosniff", "Last-Modified: "} {
		if !strings.Contains(head, h) {
			t.Errorf("no %q in\n%s", h, head)
		}
	}
	_, tag, _ := strings.Cut(head, "Etag: ")
	tag, _, _ = strings.Cut(tag, "\r\n")
	code := func(args ...string) string {
		return n1.run(t, append([]string{"curl", "-s", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code}"}, args...)...)
	}
	if got := code("-H", "If-None-Match: "+tag, webURL+"/images/debian.sqsh"); got != "304" {
		t.Errorf("who has the file already gets %s", got)
	}
	if got := code("-r", "0-9", "-H", `If-Range: "other"`, webURL+"/images/debian.sqsh"); got != "200" {
		t.Errorf("a part of another version gets %s", got)
	}
	for url, want := range map[string]string{
		"/images/": "400", "/files/linux": "404", "/files/": "400", "/": "404", "/files/out": "403", "/images/..%2fsecret": "403", "/files/.hidden": "403",
		"/files/linux/vmlinuz%00": "403", `/files/..%5csecret`: "403", "/ipxe/ipxe.efi": "200", "/ipxe/../secret": "307", "/images/none": "404",
		"/boot/ipxe": "400", "/boot/ipxe?mac=zz": "400", "/nodes?format=xml": "400", "/events?mac=52-54-00-00-00-01": "200", "/healthz": "200", "/metrics": "200",
	} {
		if got := code(webURL + url); got != want {
			t.Errorf("%s answers %s, want %s", url, got, want)
		}
	}
	if got := code("-X", "PUT", "-d", "x", webURL+"/files/new"); got != "405" {
		t.Errorf("PUT answers %s", got)
	}
	// the server closes while it is still being sent, which curl may call a failure
	if got := n1.run(t, "sh", "-c", "curl -s -o /dev/null -w '%{http_code}' -H 'X: "+strings.Repeat("x", 40000)+"' "+webURL+"/healthz || true"); got != "431" {
		t.Errorf("a large header answers %s", got)
	}
}

func TestANodeIsFollowedFromDHCPToRunning(t *testing.T) {
	b := newBench(t)
	config := b.site(t, "dhcp", "10.1.0.100", "")
	s := b.serve(t, config)
	n1 := b.booted(t, "n1", "52:54:00:00:00:01", "10.1.0.11")
	if st := b.status(t, n1)["n1"]; st.Stage != "" || st.IP != "10.1.0.11" || st.Last.IsZero() {
		t.Errorf("after a lease without a boot: %+v", st)
	}
	script := n1.run(t, "curl", "-sf", webURL+"/boot/ipxe?mac=52:54:00:00:00:01")
	if !strings.Contains(script, "kernel --name BOOT_IMAGE=vmlinuz http://10.1.0.1:8080/files/linux/vmlinuz initrd=initramfs0 console=ttyS0 windlass.container=http://10.1.0.1:8080/images/debian.yaml BOOTIF=01-52-54-00-00-00-01 windlass.report=http://10.1.0.1:8080/report") {
		t.Errorf("the script is\n%s", script)
	}
	n1.run(t, "curl", "-sf", "-o", "/dev/null", webURL+"/files/linux/vmlinuz")
	n1.run(t, "curl", "-sf", "-o", "/dev/null", webURL+"/files/base.img")
	report := func(n *node, body string) string {
		return n.run(t, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-d", body, webURL+"/report")
	}
	for body, want := range map[string]string{
		`{"mac":"52:54:00:00:00:01","stage":"init"}`:                                "204",
		`{"mac":"52:54:00:00:00:02","stage":"init"}`:                                "403", // of another
		`{"mac":"52:54:00:00:00:77","stage":"init"}`:                                "403", // not listed, from n1's address
		`{"mac":"52:54:00:00:00:01","stage":"lunch"}`:                               "400",
		`{"mac":"52:54:00:00:00:01"`:                                                "400",
		`{"mac":"52:54:00:00:00:01","message":"` + strings.Repeat("x", 9000) + `"}`: "413",
	} {
		if got := report(n1, body); got != want {
			t.Errorf("%.60s answers %s, want %s", body, got, want)
		}
	}
	if got := report(n1, `{"mac":"52:54:00:00:00:01","stage":"image","error":"500 \u001b[2J"}`); got != "204" {
		t.Error(got)
	}
	if st := b.status(t, n1)["n1"]; st.Error == nil || st.Error.Text != "500 [2J" {
		t.Errorf("the error is not shown: %+v", st)
	}
	n1.run(t, "curl", "-sf", "-o", "/dev/null", webURL+"/images/debian.sqsh")
	report(n1, `{"mac":"52:54:00:00:00:01","stage":"running","state":"done","uptime_ms":9000,"sent_ms":9001,"message":"debian"}`)
	st := b.status(t, n1)["n1"]
	var stages []string
	for _, e := range st.Stages {
		stages = append(stages, string(e.Stage))
	}
	if got := strings.Join(stages, " "); got != "script kernel initramfs init image running" || st.Stage != bootstage.Running || st.Error != nil || st.Message != "debian" {
		t.Errorf("stages %s, %+v", got, st)
	}
	table := n1.run(t, "curl", "-sf", "-H", "Accept: text/plain", webURL+"/nodes")
	if !strings.Contains(table, "NAME") || !strings.Contains(table, "  running  done  ") {
		t.Errorf("the table is\n%s", table)
	}
	if m := n1.run(t, "curl", "-sf", webURL+"/metrics"); !strings.Contains(m, `windlass_netboot_nodes{stage="running"} 1`) || !strings.Contains(m, `windlass_netboot_reports_total{result="error",stage="image"} 1`) {
		t.Errorf("the metrics do not show it")
	}
	// another node may not have its script, nor speak for it
	n2 := b.booted(t, "n2", "52:54:00:00:00:02", "10.1.0.100")
	if got := n2.fails(t, "curl", "-sSf", webURL+"/boot/ipxe?mac=52:54:00:00:00:01"); !strings.Contains(got, "403") {
		t.Errorf("n2 asked for the script of n1: %s", got)
	}
	// but n1 may report from an address of the site that is nobody's
	n1.address(t, "10.1.0.66")
	if got := n1.run(t, "curl", "-s", "--interface", "10.1.0.66", "-o", "/dev/null", "-w", "%{http_code}", "-d", `{"mac":"52:54:00:00:00:01","stage":"running","state":"done"}`, webURL+"/report"); got != "204" {
		t.Errorf("a report from another address of the node answers %s", got)
	}
	s.kill(t, syscall.SIGTERM)
	b.serve(t, config)
	if st := b.status(t, n1)["n1"]; st.Stage != bootstage.Running {
		t.Errorf("after a restart the node is %+v", st)
	}
}

func TestProxyBesideDnsmasq(t *testing.T) {
	b := newBench(t)
	b.serve(t, b.site(t, "proxy", "", ""))
	// one on the same machine and one elsewhere would both do; this one shares port 67 with ours
	dnsmasq := start(t, nil, "dnsmasq", "-d", "-C", "/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--no-ping", "--dhcp-range=10.1.0.200,10.1.0.210,1h",
		"--dhcp-leasefile="+filepath.Join(b.dir, "d.leases"), "--log-dhcp", "--user=root", "--pid-file=")
	dnsmasq.log.wait(t, "DHCP, IP range")
	n1 := b.node(t, "n1", "52:54:00:00:00:01")
	out := n1.udhcpc(t, b)
	if !strings.Contains(out, "ip=10.1.0.2") || strings.Contains(out, "hostname=n1") {
		t.Errorf("a plain client got\n%s", out)
	}
	n1.proxyOffers(t, "ipxe.efi")
}
