package network

import (
	"bytes"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// bootDevices gives the names of the devices that lead to where the node booted from: the one that the boot loader names (BOOTIF=), or its
// bond, and the VLANs on it. It gives none when that one is not there, or is not to lead anywhere.
func (n *Network) bootDevices() (names []string) {
	if n.cfg.BootMAC == nil {
		return nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	for _, l := range links {
		if !physical(l) || !bytes.Equal(permanent(l), n.cfg.BootMAC) {
			continue
		}
		base := l.Attrs().Name
		spec := n.specOf(l)
		if master := n.masterOf(l); master != "" {
			base = master
			spec = n.called(master)
		}
		if spec != nil && n.leads(*spec) {
			names = append(names, base)
		}
		for _, s := range n.cfg.Links {
			if s.VLAN > 0 && s.Parent == base && n.leads(s) {
				names = append(names, s.Device)
			}
		}
	}
	return names
}

// permanent gives the address that the device has by itself: in a bond it has that of the bond.
func permanent(l netlink.Link) []byte {
	if a := l.Attrs(); len(a.PermHWAddr) > 0 {
		return a.PermHWAddr
	}
	return l.Attrs().HardwareAddr
}

// called gives what the command line says of a device by its name.
func (n *Network) called(name string) *cmdline.Link {
	i := slices.IndexFunc(n.cfg.Links, func(s cmdline.Link) bool { return s.Device == name })
	if i < 0 {
		return nil
	}
	return &n.cfg.Links[i]
}

// leads says whether a boot can go on with the device: it gets an address, and leads out of its own network if any does.
func (n *Network) leads(l cmdline.Link) bool {
	return l.Method != cmdline.None && (leads(l) || !slices.ContainsFunc(n.cfg.Links, leads))
}

// boots says whether the device leads to where the node booted from, as it was when the device had its link.
func (d *device) boots() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.boot
}

// waitsFor gives the device that the boot does rather go on with; "" when there is none.
func (d *device) waitsFor() string {
	names := d.net.bootDevices()
	if len(names) == 0 || slices.Contains(names, d.name) {
		return ""
	}
	return names[0]
}
