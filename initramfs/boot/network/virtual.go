package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// makeBond makes the bond. Devices join it as they come.
func makeBond(l cmdline.Link) error {
	b := netlink.NewLinkBond(netlink.LinkAttrs{Name: l.Device})
	b.Mode = netlink.StringToBondMode(l.BondMode)
	b.Miimon = l.Miimon
	if b.Mode == netlink.BOND_MODE_802_3AD {
		b.LacpRate = netlink.BOND_LACP_RATE_FAST
		b.XmitHashPolicy = netlink.BOND_XMIT_HASH_POLICY_LAYER3_4
	}
	if err := netlink.LinkAdd(b); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make the bond (%s): %w", l.BondMode, err)
	}
	return nil
}

// enslave makes the device part of a bond, for which it must be down; the bond brings it up. Events come late: what l says may not be so
// any more, and to take a device down that is part of the bond already would cut it off.
func enslave(l netlink.Link, bond string) error {
	l, err := netlink.LinkByIndex(l.Attrs().Index)
	if err != nil || l.Attrs().MasterIndex > 0 {
		return err
	}
	master, err := netlink.LinkByName(bond)
	if err != nil {
		return fmt.Errorf("join %s: %w", bond, err)
	}
	if err := netlink.LinkSetDown(l); err != nil {
		return fmt.Errorf("join %s: %w", bond, err)
	}
	if err := netlink.LinkSetMaster(l, master); err != nil {
		return fmt.Errorf("join %s: %w", bond, err)
	}
	return nil
}

// makeVLANs makes the VLANs of a device that has come, and brings it up.
func (n *Network) makeVLANs(parent netlink.Link) {
	name := parent.Attrs().Name
	n.mu.Lock()
	var now, later []cmdline.Link
	for _, l := range n.missing {
		if l.Parent == name {
			now = append(now, l)
		} else {
			later = append(later, l)
		}
	}
	n.missing = later
	n.mu.Unlock()
	for _, l := range now {
		if err := makeVLAN(parent, l); err != nil {
			n.cfg.Say("%s: %v", l.Device, err)
		}
	}
}

func makeVLAN(parent netlink.Link, l cmdline.Link) error {
	v := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: l.Device, ParentIndex: parent.Attrs().Index}, VlanId: l.VLAN}
	if err := netlink.LinkAdd(v); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make VLAN %d of %s: %w", l.VLAN, l.Parent, err)
	}
	if err := netlink.LinkSetUp(parent); err != nil {
		return fmt.Errorf("bring up %s: %w", l.Parent, err)
	}
	return nil
}
