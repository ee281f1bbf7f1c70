package script

import (
	"strings"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
)

const server = "http://10.1.0.1:8080"

// site is a configuration with two groups and a node.
func site(t testing.TB, more string) *config.Config {
	t.Helper()
	c, err := config.Parse("/etc/netboot.yaml", []byte(`
files: /srv/boot
unknown: default-group
default_group: rescue
groups:
  compute:
    kernel: linux/vmlinuz
    initramfs: [base.img, site.img]
    command_line: console=ttyS0 windlass.container={{image . "compute.yaml"}} role={{param . "role" "none"}} rack={{.Params.rack}}
    params: {rack: unset, role: worker}
  rescue:
    kernel: vmlinuz
    command_line: windlass.rescue
nodes:
  - {name: n1, mac: 52-54-00-AA-BB-01, group: compute, params: {rack: r7}}
`+more))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestScriptOfANode(t *testing.T) {
	s, err := Compile(site(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.IPXE("52:54:00:aa:bb:01", server)
	if err != nil {
		t.Fatal(err)
	}
	want := `#!ipxe
echo windlass: n1 (52:54:00:aa:bb:01) boots as compute
:again
imgfree
kernel --name BOOT_IMAGE=vmlinuz http://10.1.0.1:8080/files/linux/vmlinuz initrd=initramfs0 initrd=initramfs1 console=ttyS0 windlass.container=http://10.1.0.1:8080/images/compute.yaml role=worker rack=r7 BOOTIF=01-52-54-00-aa-bb-01 windlass.report=http://10.1.0.1:8080/report || goto failed
initrd --name initramfs0 http://10.1.0.1:8080/files/base.img || goto failed
initrd --name initramfs1 http://10.1.0.1:8080/files/site.img || goto failed
boot || goto failed
:failed
echo windlass: n1 could not boot: ${errno}; trying again in 10 seconds
sleep 10
chain --replace http://10.1.0.1:8080/boot/ipxe?mac=52:54:00:aa:bb:01 || goto again
`
	if got != want {
		t.Errorf("the script is\n%s", got)
	}
	unlisted, err := s.IPXE("52:54:00:aa:bb:99", server)
	if err != nil || !strings.Contains(unlisted, "node-525400aabb99 (52:54:00:aa:bb:99) boots as rescue") {
		t.Errorf("a node that is not listed gets %v\n%s", err, unlisted)
	}
	_, text, err := s.Unlisted(server, "http://h/boot.ipxe?mac=00:00:00:00:00:00", "${net0/mac:hexhyp}", "${net0/mac}")
	if err != nil || !strings.Contains(text, "BOOTIF=01-${net0/mac:hexhyp}") || !strings.Contains(text, "?mac=${net0/mac}") || strings.Contains(text, "0000") {
		t.Errorf("the script for who is not listed is %v\n%s", err, text)
	}
}

func TestUnknownNodesAreIgnored(t *testing.T) {
	c := site(t, "")
	c.DefaultGroup = ""
	s, err := Compile(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.IPXE("52:54:00:aa:bb:99", server); !fault.Is(err, fault.NotFound) {
		t.Errorf("a node that is not listed: %v", err)
	}
	if _, _, err := s.Unlisted(server, "", "", ""); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

func TestMistakesInTemplatesAreToldBeforeANodeBoots(t *testing.T) {
	for line, want := range map[string]string{
		"{{.Nmae}}":               "can't evaluate field Nmae",
		"{{.Params.rack":          "unclosed action",
		"x={{.Params.floor}}":     `map has no entry for key "floor"`,
		"{{imgae . \"x\"}}":       "function \"imgae\" not defined",
		"a || shell":              "would end the line in iPXE",
		"a #b":                    "would end the line in iPXE",
		strings.Repeat("x", 2048): "the kernel takes 2047",
		"{{range 100}}{{printf \"%999d\" 1}}{{end}}": "more than 65536 bytes",
	} {
		c := site(t, "")
		g := c.Groups["compute"]
		g.CommandLine = line
		c.Groups["compute"] = g
		if _, err := Compile(c); err == nil || !strings.Contains(err.Error(), want) || !fault.Is(err, fault.Invalid) {
			t.Errorf("%.40s: %v, want %q", line, err, want)
		}
	}
	c := site(t, "")
	for name, g := range c.Groups {
		g.Script = "echo {{.Name}}"
		c.Groups[name] = g
	}
	_, err := Compile(c)
	if err == nil || !strings.Contains(err.Error(), "nodes.n1") || !strings.Contains(err.Error(), "default_group") || !strings.Contains(err.Error(), "#!ipxe") {
		t.Errorf("scripts that are none: %v", err)
	}
}

// What a configuration may hold never makes a line of its own in a script.
func FuzzParams(f *testing.F) {
	f.Add("r7", "n1")
	f.Add("a\nshell", "n1")
	f.Add("a || shell", "b\r\nreboot")
	f.Add("#", "a;b")
	f.Fuzz(func(t *testing.T, value, name string) {
		c := site(t, "")
		c.Nodes[0].Params = map[string]string{"rack": value, "role": name}
		s, err := Compile(c)
		if err != nil {
			return
		}
		text, err := s.IPXE(c.Nodes[0].MAC, server)
		if err != nil {
			t.Fatalf("compiled, but: %v", err)
		}
		if n := strings.Count(text, "\n"); n != 12 {
			t.Errorf("%d lines:\n%s", n, text)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	f.Add("{{.Name}} {{.Params.rack}}")
	f.Add(`{{image . "x"}}{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`)
	f.Add(`{{join "," .Layers}}{{index .Params 3}}{{printf "%*d" 100 1}}`)
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "range") {
			return // may count for ever; whoever writes the configuration may
		}
		c := site(t, "")
		g := c.Groups["compute"]
		g.CommandLine = line
		c.Groups["compute"] = g
		if s, err := Compile(c); err == nil {
			if b, err := s.Boot(c.Nodes[0].MAC, server); err != nil || len(b.CommandLine) > maxCommandLine || strings.ContainsAny(b.CommandLine, "\n\r\x00") {
				t.Errorf("%v: %q", err, b.CommandLine)
			}
		}
	})
}
