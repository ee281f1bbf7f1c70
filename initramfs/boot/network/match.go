package network

import (
	"bytes"
	"net"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// wanted says whether the link is a device of a network, or made here.
func wanted(l netlink.Link) bool {
	a := l.Attrs()
	if a.Flags&net.FlagLoopback != 0 {
		return false
	}
	switch l.Type() {
	case "device", "veth", "bond", "vlan", "macvlan", "ipoib":
		return len(a.HardwareAddr) == 6 || len(a.HardwareAddr) == 20
	}
	return false
}

// specOf gives what is said of a link: by its name or address, else what is said of all.
func (n *Network) specOf(l netlink.Link) *cmdline.Link {
	var every *cmdline.Link
	for i := range n.cfg.Links {
		s := &n.cfg.Links[i]
		switch {
		case s.Device != "" && s.Device == l.Attrs().Name, s.MAC != nil && physical(l) && bytes.Equal(s.MAC, l.Attrs().HardwareAddr):
			return s
		case s.Device == "" && s.MAC == nil:
			every = s
		}
	}
	if every != nil && physical(l) && !n.underVLAN(l) {
		return every
	}
	return nil
}

// physical says that nobody made it of another.
func physical(l netlink.Link) bool { return l.Type() != "bond" && l.Type() != "vlan" }

// masterOf gives the bond that the link belongs to.
func (n *Network) masterOf(l netlink.Link) string {
	for _, s := range n.cfg.Links {
		if physical(l) && (slices.Contains(s.Bond, l.Attrs().Name) || slices.Contains(s.Bond, l.Attrs().HardwareAddr.String())) {
			return s.Device
		}
	}
	return ""
}

func (n *Network) underVLAN(l netlink.Link) bool {
	return slices.ContainsFunc(n.cfg.Links, func(s cmdline.Link) bool { return s.VLAN > 0 && s.Parent == l.Attrs().Name })
}
