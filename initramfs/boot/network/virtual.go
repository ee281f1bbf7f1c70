package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// makeBond makes the bond. Devices join it as they come.
func (n *Network) makeBond(l cmdline.Link) error {
	b := netlink.NewLinkBond(netlink.LinkAttrs{Name: l.Device})
	b.Mode = netlink.StringToBondMode(l.BondMode)
	b.Miimon = l.Miimon
	if b.Mode == netlink.BOND_MODE_802_3AD {
		b.LacpRate = netlink.BOND_LACP_RATE_FAST
		b.XmitHashPolicy = netlink.BOND_XMIT_HASH_POLICY_LAYER3_4
	}
	if err := n.cfg.linkAdd(b); err != nil && !errors.Is(err, unix.EEXIST) {
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

// joinAll has the devices of a bond join that were there before it.
func (n *Network) joinAll(bond string) {
	links, err := netlink.LinkList()
	if err != nil {
		n.cfg.Say("%s: list its devices: %v", bond, err)
		return
	}
	for _, l := range links {
		if n.masterOf(l) != bond {
			continue
		}
		if err := enslave(l, bond); err != nil {
			n.cfg.Say("%s: %v", l.Attrs().Name, err)
		}
	}
}

// makeVLANs makes the VLANs of a device that has come, and brings it up.
func (n *Network) makeVLANs(ctx context.Context, parent netlink.Link) {
	name, index := parent.Attrs().Name, parent.Attrs().Index
	for _, l := range n.cfg.Links {
		if l.VLAN == 0 || l.Parent != name {
			continue
		}
		n.mu.Lock()
		has := n.vlans[l.Device] == index
		n.vlans[l.Device] = index
		n.mu.Unlock()
		if !has {
			n.insist(ctx, l.Device, func() error { return n.makeVLAN(index, l) })
		}
	}
}

// makeVLAN makes a VLAN, unless its parent is not there any more.
func (n *Network) makeVLAN(parent int, l cmdline.Link) error {
	p, err := netlink.LinkByIndex(parent)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", l.Parent, err)
	}
	v := &netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: l.Device, ParentIndex: parent}, VlanId: l.VLAN}
	if err := n.cfg.linkAdd(v); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make VLAN %d of %s: %w", l.VLAN, l.Parent, err)
	}
	if err := netlink.LinkSetUp(p); err != nil {
		return fmt.Errorf("bring up %s: %w", l.Parent, err)
	}
	return nil
}

// insist does something, and goes on trying in the background when it fails: a module may not be loaded yet.
func (n *Network) insist(ctx context.Context, name string, fn func() error) {
	err := fn()
	if err == nil {
		return
	}
	n.cfg.Say("%s: %v; it is tried on", name, err)
	go func() {
		for pause := n.cfg.Timing.Pause; err != nil; pause = min(2*pause, n.cfg.Timing.Longest) {
			if !sleep(ctx, pause) {
				return
			}
			err = fn()
		}
	}()
}
