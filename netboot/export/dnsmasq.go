package export

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/script"
)

// platform is how dnsmasq knows one: the numbers of its architectures, by TFTP and by HTTP, and their names in pxe-service.
type platform struct {
	tftp, http []int
	services   []string
}

func platforms() map[config.Platform]platform {
	return map[config.Platform]platform{
		config.BIOS:  {[]int{0}, []int{20}, []string{"x86PC"}},
		config.EFI32: {[]int{6}, []int{15}, []string{"IA32_EFI"}},
		config.EFI64: {[]int{7, 9}, []int{16, 17}, []string{"X86-64_EFI", "BC_EFI"}},
		config.ARM64: {[]int{11}, []int{19}, []string{"ARM64_EFI"}},
	}
}

// conf is dnsmasq.conf as it grows.
type conf struct{ b strings.Builder }

func (c *conf) linef(format string, args ...any) { fmt.Fprintf(&c.b, format+"\n", args...) }

// dnsmasq makes dnsmasq.conf and its TFTP root: boot programs, and scripts for iPXE.
func dnsmasq(c *config.Config, s *script.Set, o Options) (*Tree, error) {
	t := &Tree{}
	var f conf
	f.b.WriteString(head)
	f.linef("# dnsmasq gives addresses and boot programs; kernels and images come from %s\n", o.URL)
	f.linef("port=0\nno-ping\nenable-tftp\ntftp-root=%s", o.Root)
	f.interfaces(c)
	f.subnets(c)
	f.nodes(c)
	f.programs(c, t, o)
	t.add("dnsmasq.conf", f.b.String())
	return t, t.scripts(c, s, o, "tftp/", "tftp://${next-server}/boot.ipxe")
}

func (f *conf) interfaces(c *config.Config) {
	for _, i := range c.Interfaces {
		if i.Mode != config.Off {
			f.linef("interface=%s", i.Name)
		}
	}
	f.linef("bind-interfaces")
	if !proxies(c) {
		f.linef("dhcp-authoritative")
	}
}

// proxies reports whether another server gives the addresses. dnsmasq knows no difference between interfaces, but between subnets.
func proxies(c *config.Config) bool {
	return !slices.ContainsFunc(c.Interfaces, func(i config.Interface) bool { return i.Mode == config.DHCP }) &&
		slices.ContainsFunc(c.Interfaces, func(i config.Interface) bool { return i.Mode == config.Proxy })
}

func (f *conf) subnets(c *config.Config) {
	for i, s := range c.Subnets {
		mask, seconds := net.IP(net.CIDRMask(s.Prefix.Bits(), 32)), int(s.Lease.Seconds())
		f.linef("\n# %s", s.Prefix)
		if proxies(c) {
			f.linef("dhcp-range=%s,proxy,%s", s.Prefix.Addr(), mask)
			continue
		}
		for _, r := range s.Ranges {
			f.linef("dhcp-range=set:subnet%d,%s,%s,%s,%d", i, r.First, r.Last, mask, seconds)
		}
		if len(s.Ranges) == 0 {
			f.linef("dhcp-range=set:subnet%d,%s,static,%s,%d", i, s.Prefix.Addr(), mask, seconds)
		}
		router := ""
		if s.Router.IsValid() {
			router = "," + s.Router.String()
		}
		f.linef("dhcp-option=tag:subnet%d,option:router%s", i, router) // without one dnsmasq would name itself
		if len(s.DNS) > 0 {
			f.linef("dhcp-option=tag:subnet%d,option:dns-server,%s", i, joined(s.DNS))
		}
		if len(s.NTP) > 0 {
			f.linef("dhcp-option=tag:subnet%d,option:ntp-server,%s", i, joined(s.NTP))
		}
		if s.Domain != "" {
			f.linef("dhcp-option=tag:subnet%d,option:domain-name,%s", i, s.Domain)
		}
	}
}

func joined[T fmt.Stringer](list []T) string {
	var texts []string
	for _, v := range list {
		texts = append(texts, v.String())
	}
	return strings.Join(texts, ",")
}

func (f *conf) nodes(c *config.Config) {
	f.linef("\n# nodes")
	for _, n := range ordered(c) {
		name, _, _ := strings.Cut(n.Name, ".")
		if n.IP.IsValid() && !proxies(c) {
			f.linef("dhcp-host=%s,%s,%s", n.MAC, n.IP, name)
		} else {
			f.linef("dhcp-host=%s,%s", n.MAC, name)
		}
	}
	if c.DefaultGroup == "" {
		f.linef("dhcp-ignore=tag:!known")
	}
}

// programs says what boots what, and copies the programs into the TFTP root.
func (f *conf) programs(c *config.Config, t *Tree, o Options) {
	f.linef("\n# iPXE has its script; 175,176 spares it 3 s of waiting for a proxy")
	f.linef("dhcp-userclass=set:ipxe,iPXE\ndhcp-match=set:ipxe,175")
	f.linef("dhcp-boot=tag:ipxe,boot.ipxe")
	if !proxies(c) {
		f.linef("dhcp-option=tag:ipxe,encap:175,176,1b")
	}
	f.linef("\n# firmware has iPXE")
	f.linef("dhcp-vendorclass=set:http,HTTPClient\ndhcp-option-force=tag:http,60,HTTPClient")
	found := c.BootPrograms()
	for _, p := range config.Platforms() {
		program := found[p]
		if program == "" {
			f.linef("# %s: there was no boot program in %s", p, c.IPXE.Dir)
			continue
		}
		t.Copies = append(t.Copies, Link{"tftp/" + program, filepath.Join(c.IPXE.Dir, program)})
		k := platforms()[p]
		for _, arch := range k.tftp {
			f.linef("dhcp-match=set:%s,option:client-arch,%d", p, arch)
		}
		for _, arch := range k.http {
			f.linef("dhcp-match=set:%s-http,option:client-arch,%d", p, arch)
		}
		f.linef("dhcp-boot=tag:%s,tag:!ipxe,%s", p, program)
		f.linef("dhcp-boot=tag:%s-http,tag:!ipxe,%s%s%s", p, o.URL, script.BinPath, program)
		for _, service := range k.services {
			if proxies(c) {
				f.linef(`pxe-service=tag:!ipxe,%s,"windlass",%s`, service, program)
			}
		}
	}
}
