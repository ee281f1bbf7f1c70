package netboot

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/windlass-hpc/windlass/netboot/export"
)

// dnsmasq runs a real one on what is exported. HTTP stays ours, as any web server's.
func (b *bench) dnsmasq(t *testing.T, config string) {
	t.Helper()
	site, scripts, err := Load(config)
	must(t, err)
	out := filepath.Join(b.dir, "out")
	tree, err := export.Build(site, scripts, export.Options{Format: export.Dnsmasq, Root: filepath.Join(out, "tftp"), URL: webURL})
	must(t, err)
	must(t, tree.Write(within(t), out))
	s := start(t, nil, "dnsmasq", "-d", "-C", filepath.Join(out, "dnsmasq.conf"), "--dhcp-leasefile="+filepath.Join(b.dir, "d.leases"), "--log-dhcp", "--user=root", "--pid-file=")
	s.log.wait(t, "TFTP root is")
	t.Cleanup(func() { s.cmd.Process.Signal(syscall.SIGTERM) })
}

func TestDnsmasqDoesTheSameFromOurExport(t *testing.T) {
	b := newBench(t)
	b.dnsmasq(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", ""))
	n1 := b.node(t, "n1", "52:54:00:00:00:01")
	c := n1.client(t)
	for name, w := range map[string]struct {
		class string
		arch  iana.Arch
		ipxe  bool
		file  string
	}{
		"BIOS": {"PXEClient:Arch:00000:UNDI:002001", 0, false, "undionly.kpxe"}, "UEFI": {"PXEClient:Arch:00007:UNDI:003016", 7, false, "ipxe.efi"},
		"HTTP": {"HTTPClient:Arch:00016:UNDI:003001", 16, false, webURL + "/ipxe/ipxe.efi"}, "iPXE": {"PXEClient:Arch:00007:UNDI:003010", 7, true, "boot.ipxe"},
	} {
		mods := []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier(w.class)), dhcpv4.WithOption(dhcpv4.OptClientArch(w.arch)),
			dhcpv4.WithRequestedOptions(dhcpv4.OptionBootfileName, dhcpv4.OptionTFTPServerName, dhcpv4.OptionRouter, dhcpv4.OptionHostName, dhcpv4.GenericOptionCode(175))}
		if w.ipxe {
			mods = append(mods, dhcpv4.WithOption(dhcpv4.OptUserClass("iPXE")))
		}
		l, err := c.Request(within(t), mods...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a := l.ACK
		file := a.BootFileNameOption()
		if file == "" {
			file = a.BootFileName
		}
		if file != w.file || a.YourIPAddr.String() != "10.1.0.11" || a.HostName() != "n1" {
			t.Errorf("%s was told\n%s", name, a.Summary())
		}
		if quick := a.Options.Get(dhcpv4.GenericOptionCode(175)); w.ipxe && !strings.HasPrefix(string(quick), "\xb0\x01\x01") {
			t.Errorf("iPXE is not spared the wait: %v", quick)
		}
		if w.class[:4] == "HTTP" && a.ClassIdentifier() != "HTTPClient" {
			t.Errorf("%s: class %q", name, a.ClassIdentifier())
		}
	}
	n1.address(t, "10.1.0.11")
	script := n1.run(t, "curl", "-sf", "tftp://10.1.0.1/ipxe/01-52-54-00-00-00-01.ipxe")
	if !strings.Contains(script, "kernel --name BOOT_IMAGE=vmlinuz "+webURL+"/files/linux/vmlinuz") {
		t.Errorf("the script is\n%s", script)
	}
	to := filepath.Join(b.dir, "got")
	n1.run(t, "curl", "-sf", "-o", to, "tftp://10.1.0.1/ipxe.efi")
	if st, err := os.Stat(to); err != nil || st.Size() != 200_000 {
		t.Errorf("the boot program: %v, %v", st, err)
	}
}

func TestDnsmasqIsAProxyFromOurExport(t *testing.T) {
	b := newBench(t)
	b.dnsmasq(t, b.site(t, "proxy", "", ""))
	d := b.node(t, "d", "52:54:00:00:00:dd")
	d.address(t, "10.1.0.2")
	other := start(t, nil, "ip", "netns", "exec", "d", "dnsmasq", "-d", "-C", "/dev/null", "--port=0", "--interface=eth0", "--no-ping", "--dhcp-range=10.1.0.200,10.1.0.210,1h",
		"--dhcp-leasefile="+filepath.Join(b.dir, "o.leases"), "--log-dhcp", "--user=root", "--pid-file=")
	other.log.wait(t, "DHCP, IP range")
	b.node(t, "n1", "52:54:00:00:00:01").proxyOffers(t, "") // dnsmasq has UEFI ask again on port 4011
}
