// Package config is what netboot.yaml says: read, judged whole, and turned into addresses and numbers.
//
// It knows how things are written and what goes together. What lies on the disk is judged by CheckFiles alone, so that a file for another
// machine can be checked.
package config

import (
	"net/netip"
	"time"
)

// Mode says what is done on an interface.
type Mode string

// The modes.
const (
	DHCP  Mode = "dhcp"  // gives addresses and says what to boot
	Proxy Mode = "proxy" // says what to boot beside a DHCP server that gives addresses
	Off   Mode = "off"   // answers no DHCP; TFTP and HTTP are served all the same
)

// Platform is a kind of firmware, which needs a boot program of its own.
type Platform string

// The platforms.
const (
	BIOS  Platform = "bios"
	EFI32 Platform = "efi32"
	EFI64 Platform = "efi64"
	ARM64 Platform = "arm64"
)

// Platforms gives them all.
func Platforms() []Platform { return []Platform{BIOS, EFI32, EFI64, ARM64} }

// Config is a configuration that makes sense.
type Config struct {
	StateDir   string
	HTTP       HTTP
	TFTP       TFTP
	Interfaces []Interface
	Subnets    []Subnet
	// DefaultGroup is what nodes that are not listed boot as; empty when they are ignored.
	DefaultGroup string
	Groups       map[string]Group
	Nodes        []Node
	// Files and Images are directories that are published below /files/ and /images/; empty is none.
	Files, Images string
	IPXE          IPXE
	// Report says whether nodes are told to report their stages.
	Report bool
	Log    Log
}

// Log is what is logged and how.
type Log struct{ Level, Format string }

// HTTP is the web server.
type HTTP struct {
	Listen string // address and port; empty is none
	// URL is how nodes reach it, without a slash at the end; empty means by the address that they asked.
	URL string
	// StatusFrom are who may read /nodes, /events and /metrics beside this machine itself; empty is everybody.
	StatusFrom []netip.Prefix
	// CheckSource refuses scripts and reports for a node that come from an address that is another node's.
	CheckSource bool
}

// Port gives the port of the web server, or "".
func (h HTTP) Port() string {
	a, err := netip.ParseAddrPort(h.Listen)
	if err != nil || a.Port() == 0 {
		return ""
	}
	return itoa(int(a.Port()))
}

// Family is "4" for an IPv4 address and port, else "": 0.0.0.0 is not to mean IPv6 too.
func Family(listen string) string {
	if a, err := netip.ParseAddrPort(listen); err == nil && a.Addr().Is4() {
		return "4"
	}
	return ""
}

// TFTP is the TFTP server.
type TFTP struct {
	Listen string // address and port; empty is none
}

// Interface is one wire.
type Interface struct {
	Name string
	Mode Mode
	// Address is the server's own on it; the zero Addr means the first that it has.
	Address netip.Addr
	// EmptyRA answers IPv6 router solicitations with nothing, which spares iPXE a wait.
	EmptyRA bool
	// Probe looks whether somebody else uses an address of a pool before it is offered.
	Probe bool
}

// Subnet is the addresses of one wire, ours or one behind a relay agent.
type Subnet struct {
	Prefix netip.Prefix
	Ranges []Range
	Router netip.Addr // may be the zero Addr
	DNS    []netip.Addr
	NTP    []netip.Addr
	Domain string
	Lease  time.Duration
}

// Range is addresses that are given to whoever has none of its own, both ends included.
type Range struct{ First, Last netip.Addr }

// Size is how many addresses a range has.
func (r Range) Size() int { return int(number(r.Last)) - int(number(r.First)) + 1 }

// Contains reports whether a is one of them.
func (r Range) Contains(a netip.Addr) bool { return !a.Less(r.First) && !r.Last.Less(a) }

// Group is what a number of nodes boot.
type Group struct {
	Name        string
	Kernel      string   // below Files
	Initramfs   []string // below Files, unpacked one over the other
	CommandLine string   // a template
	Params      map[string]string
	// Script is the text of a template to be used instead of the built-in iPXE script.
	Script string
}

// Node is one computer.
type Node struct {
	Name   string
	MAC    string // lower case with colons
	IP     netip.Addr
	Group  string
	Params map[string]string
}

// IPXE is where the boot programs are.
type IPXE struct {
	Dir string
	// Programs are the names of the programs below Dir that were given for a platform; others are looked for by their usual names.
	Programs map[Platform]string
}

// Node gives the listed node with a MAC.
func (c *Config) Node(mac string) (Node, bool) {
	for _, n := range c.Nodes {
		if n.MAC == mac {
			return n, true
		}
	}
	return Node{}, false
}

// SubnetOf gives the subnet that an address lies in.
func (c *Config) SubnetOf(a netip.Addr) (Subnet, bool) {
	for _, s := range c.Subnets {
		if s.Prefix.Contains(a) {
			return s, true
		}
	}
	return Subnet{}, false
}
