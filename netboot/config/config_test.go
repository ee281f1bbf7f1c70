package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

const example = "../../docs/netboot.yaml"

func TestTheExampleIsRightAndHasEveryKey(t *testing.T) {
	c, err := Load(example)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := c.Node("52:54:00:12:34:01")
	if !ok || n.Name != "n1" || n.IP != netip.MustParseAddr("10.1.0.11") || n.Params["rack"] != "r7" || len(c.Nodes) != 3 {
		t.Errorf("the nodes came out as %+v", c.Nodes)
	}
	s, ok := c.SubnetOf(n.IP)
	if !ok || s.Lease != time.Hour || s.Ranges[0].Size() != 8*256 || c.Subnets[1].Lease != 12*time.Hour {
		t.Errorf("the subnets came out as %+v", c.Subnets)
	}
	if c.HTTP.Listen != "0.0.0.0:8080" || c.HTTP.Port() != "8080" || !c.HTTP.CheckSource || !c.Report || c.DefaultGroup != "" || c.IPXE.Programs[EFI64] != "ipxe.efi" {
		t.Errorf("it came out as %+v", c)
	}
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(reflect.TypeFor[file]()) {
		if !strings.Contains(string(text), key+":") {
			t.Errorf("%s is not in the example", key)
		}
	}
}

// keys gives the names of all fields of a type and of those below.
func keys(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for f := range t.Fields() {
		names = append(append(names, f.Tag.Get("json")), keys(f.Type)...)
	}
	return names
}

func TestDefaults(t *testing.T) {
	c, err := Parse("/etc/windlass/netboot.yaml", []byte("files: boot\ntftp: {listen: off}\nhttp: {listen: ':80'}"))
	if err != nil {
		t.Fatal(err)
	}
	if c.StateDir != DefaultStateDir || c.Files != "/etc/windlass/boot" || c.TFTP.Listen != "" || c.HTTP.Listen != "0.0.0.0:80" || c.IPXE.Dir != DefaultIPXE || c.Log.Level != "info" {
		t.Errorf("%+v", c)
	}
}

func TestAllProblemsAreToldAtOnce(t *testing.T) {
	_, err := Parse("n.yaml", []byte(`
unknown: default-group
log: {level: loud}
http: {listen: here, url: "ftp://x", status_from: [10.1.0.1]}
tftp: {listen: "10.1.0.1"}
interfaces:
  - {name: eth1, mode: dhpc}
  - {name: eth1, mode: dhcp, address: 10.7.0.1}
  - {name: "a b", mode: off}
subnets:
  - {subnet: 10.1.0.1/16}
  - {subnet: 10.1.0.0/16, ranges: [10.1.0.5-10.1.0.2, 10.1.255.255, 10.1.1.0-10.1.1.9, 10.1.1.9-10.1.1.20], router: 10.3.0.1, dns: [x], lease_time: 1s, domain: "a b"}
  - {subnet: 10.1.4.0/24}
ipxe: {bios: ../undionly.kpxe}
groups:
  "com pute": {kernel: vmlinuz}
  empty: {}
  params: {kernel: /vmlinuz, params: {"a-b": x, c: "x\ny"}}
  both: {script: x, script_file: y}
nodes:
  - {name: n1, mac: "52:54:00:00:00:01", ip: 10.1.0.11, group: none}
  - {name: n1, mac: "52-54-00-00-00-01", ip: 10.1.0.11, group: empty}
  - {name: "-", mac: "01:00:5e:00:00:01", ip: 10.9.0.1, group: empty}
`))
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{
		"default_group: unknown: default-group needs one", `log.level: "loud" is none of`, `http.listen: "here"`, `http.url: "ftp://x"`, "http.status_from", "tftp.listen",
		`interfaces.eth1.mode: "dhpc" is none of dhcp, proxy, off`, "interfaces.eth1: it is there twice", "10.7.0.1 is in none of the subnets", "no name of an interface",
		`subnets.10.1.0.1/16: "10.1.0.1/16" is no IPv4 network`, `"10.1.0.5-10.1.0.2" is no range`, `"10.1.255.255" is no range`, "10.1.1.9-10.1.1.20 overlaps 10.1.1.0-10.1.1.9",
		"10.3.0.1 is not in the subnet", `dns: "x" is no IPv4`, `"1s" is no time from 10s`, `domain: "a b"`, "subnets.10.1.4.0/24: it overlaps 10.1.0.0/16", "ipxe.bios",
		"groups.com pute: the name", "groups.empty: a kernel is needed", "which is not set", "groups.params.params.a-b: the name", "groups.params.params.c: the value", "exclude each other",
		`there is no group "none"`, "52:54:00:00:00:01 is that of n1 too", "10.1.0.11 is that of n1 too", "nodes.n1.name: it is there twice", `"-" is no host name`,
		`"01:00:5e:00:00:01" is no Ethernet address of a node`, "10.9.0.1 is no host address of a subnet",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not told: %s", want)
		}
	}
	if t.Failed() {
		t.Logf("told was\n%v", err)
	}
}

func TestUnknownKeysAreToldWithTheirLine(t *testing.T) {
	_, err := Parse("n.yaml", []byte("intefaces: []\ngroups:\n  a: {kernal: x}\n"))
	if err == nil || !strings.Contains(err.Error(), "n.yaml:1: unknown field intefaces (did you mean interfaces?)") || !strings.Contains(err.Error(), "n.yaml:3: groups.a: unknown field kernal") {
		t.Errorf("%v", err)
	}
}

func TestCheckFilesTellsWhatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	c, err := Parse(filepath.Join(dir, "n.yaml"), []byte("files: .\nimages: images\nipxe: {dir: ipxe, bios: x.kpxe}\ngroups: {a: {kernel: vmlinuz, initramfs: [i.img]}}"))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint(c.CheckFiles())
	for _, want := range []string{"images", "vmlinuz", "i.img", "x.kpxe", "no boot program"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not told of: %s", want, text)
		}
	}
	for _, name := range []string{"vmlinuz", "i.img", "ipxe/x.kpxe", "ipxe/snponly.efi", "images/x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if errs := c.CheckFiles(); len(errs) > 0 {
		t.Errorf("all is there: %v", errs)
	}
	if p := c.BootPrograms(); p[BIOS] != "x.kpxe" || p[EFI64] != "snponly.efi" || p[ARM64] != "" {
		t.Errorf("found were %v", p)
	}
}

func FuzzParse(f *testing.F) {
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("nodes: [{name: a, mac: 52:54:00:00:00:01, group: b, params: {x: y}}]\ngroups: {b: null}\nsubnets: [{subnet: 10.0.0.0/8, ranges: [10.0.0.1-10.255.255.254]}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(string(data), "script_file") {
			return // opens what it names
		}
		c, err := Parse("n.yaml", data)
		if err != nil {
			return
		}
		for _, n := range c.Nodes {
			if _, ok := c.Groups[n.Group]; !ok || len(n.MAC) != 17 || !domain(n.Name) {
				t.Errorf("accepted %+v", n)
			}
		}
		for _, s := range c.Subnets {
			for _, r := range s.Ranges {
				if r.Size() < 1 || r.Size() > maxPool || !s.Prefix.Contains(r.First) || !s.Prefix.Contains(r.Last) {
					t.Errorf("accepted %+v", s)
				}
			}
		}
	})
}
