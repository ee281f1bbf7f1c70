package export

import (
	"fmt"
	"slices"
	"strings"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/script"
)

// pxelinux makes pxelinux.cfg, one file a node, for a TFTP root that has PXELINUX already. Kernels come by TFTP, below files/.
func pxelinux(c *config.Config, s *script.Set, o Options) (*Tree, error) {
	t := &Tree{}
	if c.Files != "" {
		t.Links = []Link{{"files", c.Files}}
	}
	for _, n := range ordered(c) {
		b, _, err := s.Written(n.MAC, o.URL, "")
		if err != nil {
			return nil, err
		}
		if b.Kernel.Path == "" {
			return nil, fault.New(fault.Unsupported, "groups.%s: it has a script of its own for iPXE and no kernel; PXELINUX cannot run it", n.Group)
		}
		t.add("pxelinux.cfg/01-"+hyphens(n.MAC), entry(b, b.CommandLine, ""))
	}
	// the MAC is PXELINUX's own to add: SYSAPPEND 2 is BOOTIF
	b, _, err := s.Unlisted(o.URL, "", "", "")
	if fault.Is(err, fault.NotFound) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	if b.Kernel.Path == "" {
		return nil, fault.New(fault.Unsupported, "default_group: it has a script of its own for iPXE and no kernel; PXELINUX cannot run it")
	}
	b.Name = "nodes that are not listed"
	words := slices.DeleteFunc(strings.Fields(b.CommandLine), func(w string) bool { return w == "BOOTIF=01-" })
	t.add("pxelinux.cfg/default", entry(b, strings.Join(words, " "), "  SYSAPPEND 2\n"))
	return t, nil
}

func entry(b *script.Boot, line, more string) string {
	var layers []string
	for _, l := range b.Layers {
		layers = append(layers, "files/"+l.Path)
	}
	initrd := ""
	if len(layers) > 0 {
		initrd = "  INITRD " + strings.Join(layers, ",") + "\n"
	}
	return fmt.Sprintf("%s# %s, group %s\nDEFAULT windlass\nPROMPT 0\nLABEL windlass\n  KERNEL files/%s\n%s  APPEND %s\n%s", head, b.Name, b.Group, b.Kernel.Path, initrd, line, more)
}
