package export

import (
	"bytes"
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/script"
)

var update = flag.Bool("update", false, "write the files that the tests compare with")

// site is what the golden files are made of. The folder of iPXE is made up: what is installed here does not matter.
func site(t *testing.T, mode, more string) (*config.Config, *script.Set, string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"ipxe/undionly.kpxe", "ipxe/ipxe.efi", "ipxe/ipxe-arm64.efi"} {
		if err := os.MkdirAll(filepath.Join(dir, "ipxe"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Parse(filepath.Join(dir, "netboot.yaml"), []byte(`
interfaces: [{name: lo, mode: `+mode+`, address: 10.1.0.1}, {name: eth2, mode: off}]
subnets:
  - {subnet: 10.1.0.0/16, ranges: [10.1.200.0-10.1.200.255, 10.1.202.0-10.1.202.9], router: 10.1.0.254, dns: [10.1.0.253, 10.1.0.252], ntp: [10.1.0.1], domain: cluster.example}
  - {subnet: 10.2.0.0/24, lease_time: 12h}
files: /srv/files
ipxe: {dir: ipxe}
groups:
  compute:
    kernel: vmlinuz
    initramfs: [base.img, site.img]
    command_line: console=ttyS0 windlass.container={{image . "compute.yaml"}}
  rescue: {kernel: vmlinuz, command_line: windlass.rescue}
nodes:
  - {name: n2.cluster.example, mac: "52:54:00:00:00:02", group: rescue}
  - {name: n1, mac: "52:54:00:00:00:01", ip: 10.1.0.11, group: compute}
`+more))
	if err != nil {
		t.Fatal(err)
	}
	s, err := script.Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	return c, s, dir
}

const unlisted = "unknown: default-group\ndefault_group: rescue\n"

func TestGolden(t *testing.T) {
	for name, o := range map[string]struct {
		format     Format
		mode, more string
	}{
		"dnsmasq": {Dnsmasq, "dhcp", ""}, "dnsmasq-unlisted": {Dnsmasq, "dhcp", unlisted}, "dnsmasq-proxy": {Dnsmasq, "proxy", ""},
		"ipxe": {IPXE, "dhcp", unlisted}, "pxelinux": {PXELinux, "dhcp", unlisted},
	} {
		c, s, dir := site(t, o.mode, o.more)
		tree, err := Build(c, s, Options{Format: o.format, Root: "/srv/tftp"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var b bytes.Buffer
		if err := tree.Print(&b); err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(b.String(), dir, "DIR")
		path := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s (-want +got; -update writes it):\n%s", name, d)
		}
	}
}

func TestDnsmasqTakesIt(t *testing.T) {
	for _, mode := range []string{"dhcp", "proxy"} {
		c, s, dir := site(t, mode, "")
		tree, err := Build(c, s, Options{Format: Dnsmasq, Root: filepath.Join(dir, "out/tftp")})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // over what is there
			if err := tree.Write(context.Background(), filepath.Join(dir, "out")); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(filepath.Join(dir, "out/tftp/ipxe.efi")); err != nil || string(got) != "ipxe/ipxe.efi" {
			t.Errorf("the boot program is %q, %v", got, err)
		}
		out, err := exec.Command("dnsmasq", "--test", "-C", filepath.Join(dir, "out/dnsmasq.conf")).CombinedOutput()
		if err != nil {
			t.Errorf("dnsmasq: %v: %s (Debian's package is dnsmasq-base)", err, out)
		}
	}
}

func TestLinksAndWhatIsInTheirWay(t *testing.T) {
	c, s, dir := site(t, "dhcp", unlisted)
	tree, err := Build(c, s, Options{Format: PXELinux})
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out")
	for range 2 {
		if err := tree.Write(context.Background(), out); err != nil {
			t.Fatal(err)
		}
	}
	if to, _ := os.Readlink(filepath.Join(out, "files")); to != "/srv/files" {
		t.Errorf("files leads to %q", to)
	}
	if err := os.Remove(filepath.Join(out, "files")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "files"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := tree.Write(context.Background(), out); !fault.Is(err, fault.Exists) {
		t.Errorf("a file was replaced by a link: %v", err)
	}
}

func TestWithoutAURLNothingIsWritten(t *testing.T) {
	c, s, _ := site(t, "dhcp", "")
	c.Interfaces = nil
	if _, err := Build(c, s, Options{Format: IPXE}); !fault.Is(err, fault.Invalid) || !strings.Contains(fault.HintOf(err), "--url") {
		t.Errorf("%v", err)
	}
	if _, err := Build(c, s, Options{Format: "grub", URL: "http://h"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("%v", err)
	}
}
