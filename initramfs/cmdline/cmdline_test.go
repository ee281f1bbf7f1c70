package cmdline

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func compare(t *testing.T, want, got any) {
	t.Helper()
	addr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	prefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if d := cmp.Diff(want, got, addr, prefix); d != "" {
		t.Error("want -, got +\n" + d)
	}
}

func TestWordsAreQuotedAsTheKernelDoes(t *testing.T) {
	got := Words("a  b=\"c d\" \"e=f g\"\th=i\"j k\"l \"\" m=\"n\n")
	compare(t, []string{"a", "b=c d", "e=f g", `h=i"j k"l`, "", "m=n\n"}, got)
}

func TestWhatWindlassUnderstands(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	o := Parse("BOOT_IMAGE=/vmlinuz quiet windlass.config=http://h/c.yaml windlass.container=http://h/d.json windlass.container.digest="+digest+
		" windlass.report=http://h/report windlass.api=http://127.0.0.1:8080,https://0.0.0.0:8443 windlass.log=debug windlass.rescue "+
		"windlass.handoff=kexec windlass.hostname=n1 windlass.ntp=10.0.0.1,10.0.0.2 BOOTIF=01-52-54-00-12-34-56", nil)
	if len(o.Warnings) > 0 {
		t.Errorf("warnings: %q", o.Warnings)
	}
	compare(t, []any{"http://h/c.yaml", "http://h/d.json", digest, "http://h/report", "debug", RescueNow, HandoffKexec, "n1",
		[]string{"10.0.0.1", "10.0.0.2"}, "52:54:00:12:34:56"},
		[]any{o.Config, o.Container, o.ContainerProof.Digest, o.Report, o.Log, o.Rescue, o.Handoff, o.Hostname, o.NTP, o.BootMAC.String()})
	args, warnings := o.Serve()
	compare(t, []string{"--log-level=debug", "--scheme=unix", "--scheme=http", "--host=127.0.0.1", "--port=8080", "--scheme=https",
		"--tls-host=0.0.0.0", "--tls-port=8443"}, args)
	if len(warnings) > 0 {
		t.Errorf("warnings: %q", warnings)
	}
}

func TestAnOpenAPINeedsASecondWord(t *testing.T) {
	o := Parse("windlass.api=http://0.0.0.0:8080", nil)
	args, warnings := o.Serve()
	if len(warnings) != 1 || !strings.Contains(warnings[0], "windlass.api.insecure") || slices.Contains(args, "--scheme=http") {
		t.Errorf("args %q, warnings %q", args, warnings)
	}
	o = Parse("windlass.api=http://0.0.0.0:8080 windlass.api.insecure", nil)
	if args, warnings = o.Serve(); len(warnings) > 0 || !slices.Contains(args, "--insecure-http") || !slices.Contains(args, "--host=0.0.0.0") {
		t.Errorf("args %q, warnings %q", args, warnings)
	}
}

func TestWhatIsNotUnderstoodIsAWarning(t *testing.T) {
	for line, want := range map[string]string{
		"windlass.contaner=http://h/d":        "did you mean windlass.container",
		"windlass.quux=1":                     "there are api",
		"windlass.config=":                    "has no value",
		"windlass.config":                     "has no value",
		"windlass.handoff=switchroot":         "did you mean switch_root",
		"windlass.container.digest=md5:1":     "sha256:",
		"windlass.hostname=a_b":               "no name of a host",
		"windlass.net=eth0,10.1.2.3":          "neither a method",
		"windlass.net=10.1.2.3/24":            "needs a device",
		"windlass.net=eth0,dhcp,gw=x":         `gw: "x" is no address`,
		"windlass.net=eth0,dhcp,colour=green": "none of gw",
		"windlass.net=eth0,dhcp,mode=802.3ad": "add bond=",
		"windlass.net=bond=eth0+eth1":         "a bond needs a name",
		"windlass.net=x,vlan=5":               "go together",
		"windlass.api=ftp://h":                "none of unix",
		"windlass.api=http://127.0.0.1:99999": "no number from 1 to 65535",
		"windlass.report=nonsense":            "windlass.report: it has no scheme",
		"windlass.container=ftp://h/d.json":   `windlass.container has the scheme "ftp"`,
		"windlass.config=http:///c":           "windlass.config names no host",
		"windlass.net=b0,dhcp,bond=eth0+a/b":  "neither the name of a device",
		"ip=nonsense":                         "none of dhcp",
		"ip=10.0.0.1::::::::":                 "needs a device",
	} {
		o := Parse(line, nil)
		if len(o.Warnings) != 1 || !strings.Contains(o.Warnings[0], want) {
			t.Errorf("%s: warnings %q, want one with %q", line, o.Warnings, want)
		}
	}
}

func TestAPasswordIsInNoWarning(t *testing.T) {
	o := Parse("windlass.confg=http://u:hunter2@h/ windlass.api=http://u:hunter2@h:1 windlass.container=http://u:hunter2@h/", nil)
	if len(o.Warnings) != 2 || strings.Contains(fmt.Sprint(o.Warnings), "hunter2") {
		t.Errorf("%q", o.Warnings)
	}
}

func TestTheLastWordCounts(t *testing.T) {
	if o := Parse("windlass.container=http://a/ windlass.container=http://b/", nil); o.Container != "http://b/" {
		t.Errorf("%q", o.Container)
	}
}

func TestLinks(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for text, want := range map[string]Link{
		"dhcp":      {Method: DHCP},
		"eth0":      {Device: "eth0", Method: Auto},
		"eth1,none": {Device: "eth1", Method: None},
		"eth0,10.1.2.3/24,fd00::3/64,gw=10.1.2.1+fd00::1,dns=10.1.2.1,search=a.b+c,mtu=9000,ntp=t,route=10.0.0.0/8@10.1.2.9": {
			Device: "eth0", Method: Static, Addresses: []netip.Prefix{p("10.1.2.3/24"), p("fd00::3/64")}, Gateways: []netip.Addr{a("10.1.2.1"), a("fd00::1")},
			DNS: []netip.Addr{a("10.1.2.1")}, Search: []string{"a.b", "c"}, MTU: 9000, NTP: []string{"t"}, Routes: []Route{{p("10.0.0.0/8"), a("10.1.2.9")}}},
		"52:54:00:12:34:56,dhcp6":                   {MAC: []byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}, Method: DHCP6},
		"bond0,dhcp,bond=52-54-00-AA-BB-CC+eth1":    {Device: "bond0", Method: DHCP, Bond: []string{"52:54:00:aa:bb:cc", "eth1"}, BondMode: "active-backup", Miimon: 100},
		"eth0.100,dhcp":                             {Device: "eth0.100", Method: DHCP, Parent: "eth0", VLAN: 100},
		"data,dhcp,vlan=7,parent=bond0":             {Device: "data", Method: DHCP, Parent: "bond0", VLAN: 7},
		"bond0,dhcp,bond=eth0+eth1":                 {Device: "bond0", Method: DHCP, Bond: []string{"eth0", "eth1"}, BondMode: "active-backup", Miimon: 100},
		"b,ra,bond=eth0+eth1,mode=802.3ad,miimon=5": {Device: "b", Method: RA, Bond: []string{"eth0", "eth1"}, BondMode: "802.3ad", Miimon: 5},
	} {
		got, err := ParseLink(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		compare(t, want, got)
	}
}

func TestTheKernelsSyntax(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	for value, want := range map[string]Link{
		"dhcp":       {Method: DHCP},
		"any":        {Method: Auto},
		"eth1:dhcp":  {Device: "eth1", Method: DHCP},
		"eth1:auto6": {Device: "eth1", Method: RA},
		"10.0.0.5:10.0.0.1:10.0.0.2:255.255.255.0:n5:eth0:none:10.0.0.3:10.0.0.4:10.0.0.6": {Device: "eth0", Method: Static, Hostname: "n5",
			Addresses: []netip.Prefix{p("10.0.0.5/24")}, Gateways: []netip.Addr{a("10.0.0.2")}, DNS: []netip.Addr{a("10.0.0.3"), a("10.0.0.4")}, NTP: []string{"10.0.0.6"}},
		"10.0.0.5::::n5:eth0":                        {Device: "eth0", Method: Static, Hostname: "n5", Addresses: []netip.Prefix{p("10.0.0.5/8")}},
		"[fd00::5]::[fd00::1]:64::eth0:none":         {Device: "eth0", Method: Static, Addresses: []netip.Prefix{p("fd00::5/64")}, Gateways: []netip.Addr{a("fd00::1")}},
		":::::eth0:dhcp":                             {Device: "eth0", Method: DHCP},
		"192.168.7.7:::255.255.255.252::eth2:static": {Device: "eth2", Method: Static, Addresses: []netip.Prefix{p("192.168.7.7/30")}},
	} {
		o := Parse("ip="+value, nil)
		if len(o.Warnings) > 0 || len(o.Links) != 1 {
			t.Errorf("ip=%s: %d links, warnings %q", value, len(o.Links), o.Warnings)
			continue
		}
		slices.SortFunc(o.Links[0].DNS, netip.Addr.Compare)
		compare(t, want, o.Links[0])
	}
	if o := Parse("ip=dhcp windlass.net=eth0,dhcp6", nil); len(o.Links) != 1 || o.Links[0].Method != DHCP6 {
		t.Errorf("windlass.net is to be stronger: %+v", o.Links)
	}
	if o := Parse("ip=off", nil); !o.NoNetwork {
		t.Error("ip=off: there is a network")
	}
	for _, line := range []string{"ip=off ip=eth0:dhcp", "ip=eth0:dhcp ip=off", "ip=off windlass.net=eth0,dhcp", "ip=none ip=10.0.0.5:::255.255.255.0::eth0:none"} {
		if o := Parse(line, nil); o.NoNetwork || len(o.Links) != 1 || o.Links[0].Device != "eth0" {
			t.Errorf("%s: no network is %v, links %+v", line, o.NoNetwork, o.Links)
		}
	}
}

func TestWhatIsPassedOn(t *testing.T) {
	line := `BOOT_IMAGE=/k console=ttyS0 quiet ds=nocloud-net;s=http://h/ hello windlass.log=debug loop.max_loop=8 systemd.unit=rescue.target x="a b" root=/dev/sda`
	given := []string{"hello", "HOME=/", "TERM=linux", "BOOT_IMAGE=/k", "ds=nocloud-net;s=http://h/", "x=a b"}
	o := Parse(line, given)
	compare(t, []string{"ds=nocloud-net;s=http://h/", "hello", "systemd.unit=rescue.target", "x=a b"}, o.Pass)
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`a="b c" windlass.net=eth0,10.0.0.1/8,gw=1 ip=[::1]::::::::`, "windlass.net=bond0,bond=a+b,mode=802.3ad", `windlass.rescue="`, "ip=:::::::",
		"windlass.net=a.1,vlan=3,parent=x windlass.api=http://[::1]:8080", "BOOTIF=01-02-03-04-05-06-07", "ip=1.2.3.4:::255.0.255.0::e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words := Words(text)
		o := Parse(text, words)
		for _, w := range o.Warnings {
			if len(w) > 1300 || strings.Contains(w, "\x00") {
				t.Errorf("warning %q", w)
			}
		}
		for _, w := range o.Pass {
			if strings.HasPrefix(w, prefix) {
				t.Errorf("passes %q on", w)
			}
		}
		for _, l := range o.Links {
			if l.Method == "" || l.Method == Static && len(l.Addresses) == 0 {
				t.Errorf("link %+v", l)
			}
		}
		o.Serve()
		if !strings.Contains(text, `"`) && !slices.Equal(words, Words(Line(words))) {
			t.Errorf("%q read back as %q", words, Words(Line(words)))
		}
	})
}
