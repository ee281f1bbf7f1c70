package dhcp

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/windlass-hpc/windlass/netboot/config"
)

// kind says what program asks.
type kind int

const (
	plain    kind = iota // an operating system that wants an address
	pxe                  // firmware that boots by TFTP
	httpBoot             // firmware that boots by HTTP
	ipxe                 // iPXE, which runs already
)

// optionIPXE is the option that iPXE sends and understands: options of its own, encapsulated.
const optionIPXE = dhcpv4.GenericOptionCode(175)

// client is who asks, as far as it matters.
type client struct {
	kind     kind
	platform config.Platform // empty when there is no boot program for it
	arch     int             // of option 93; -1 when it does not say
}

func (c client) String() string {
	name := [...]string{"plain", "pxe", "http", "ipxe"}[c.kind]
	if c.platform != "" {
		return name + "/" + string(c.platform)
	}
	if c.arch >= 0 {
		return fmt.Sprintf("%s/arch%d", name, c.arch)
	}
	return name
}

func identify(m *dhcpv4.DHCPv4) client {
	c := client{arch: -1}
	class := m.Options.Get(dhcpv4.OptionClassIdentifier)
	switch {
	case bytes.Contains(m.Options.Get(dhcpv4.OptionUserClassInformation), []byte("iPXE")) || m.Options.Has(optionIPXE):
		c.kind = ipxe
	case bytes.HasPrefix(class, []byte("PXEClient")):
		c.kind = pxe
	case bytes.HasPrefix(class, []byte("HTTPClient")):
		c.kind = httpBoot
	}
	if list := m.Options.Get(dhcpv4.OptionClientSystemArchitectureType); len(list) >= 2 {
		c.arch = int(list[0])<<8 | int(list[1])
	} else {
		c.arch = archOfClass(string(class))
	}
	c.platform = platformOf(c.arch)
	return c
}

// archOfClass reads the architecture of a class such as PXEClient:Arch:00007:UNDI:003016. Firmware that says nothing is a BIOS.
func archOfClass(class string) int {
	parts := strings.Split(class, ":")
	if len(parts) >= 3 && parts[1] == "Arch" {
		n := 0
		for _, d := range parts[2] {
			if d < '0' || d > '9' || n > 65535 {
				return -1
			}
			n = 10*n + int(d-'0')
		}
		return n
	}
	if strings.HasPrefix(class, "PXEClient") {
		return 0
	}
	return -1
}

// platformOf knows the architectures of RFC 4578 and of IANA's list after it. Firmware of x86-64 calls itself 7 or 9: the RFC and its
// erratum disagree.
func platformOf(arch int) config.Platform {
	switch iana.Arch(arch) {
	case iana.INTEL_X86PC, iana.INTEL_X86PC_HTTP:
		return config.BIOS
	case iana.EFI_IA32, iana.EFI_X86_HTTP:
		return config.EFI32
	case iana.EFI_X86_64, iana.EFI_BC, iana.EFI_X86_64_HTTP, iana.EFI_BC_HTTP:
		return config.EFI64
	case iana.EFI_ARM64, iana.EFI_ARM64_HTTP:
		return config.ARM64
	}
	return ""
}
