package network

import (
	"bytes"
	"context"
	"net"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// watch follows devices, addresses, and what routers announce.
func (n *Network) watch(ctx context.Context) error {
	options, err := announcements(ctx, n.announced) // before any link is up: routers do not wait
	if err != nil {
		n.cfg.Say("name servers that routers announce are not known: %v", err)
	} else {
		go options()
	}
	links := make(chan netlink.LinkUpdate, 64)
	addrs := make(chan netlink.AddrUpdate, 64)
	failed := func(err error) { n.cfg.Say("devices of the network: %v", err) }
	if err := netlink.AddrSubscribeWithOptions(addrs, ctx.Done(), netlink.AddrSubscribeOptions{ErrorCallback: failed, ListExisting: true}); err != nil {
		return err
	}
	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ErrorCallback: failed, ListExisting: true}); err != nil {
		return err
	}
	go func() {
		for links != nil || addrs != nil {
			select {
			case u, ok := <-links:
				if !ok {
					links = nil
				} else if ctx.Err() == nil {
					n.seen(ctx, u)
				}
			case u, ok := <-addrs:
				if !ok {
					addrs = nil
				} else {
					n.address(u)
				}
			}
		}
	}()
	return nil
}

// seen takes what the kernel says of a link.
func (n *Network) seen(ctx context.Context, u netlink.LinkUpdate) {
	index := u.Attrs().Index
	n.mu.Lock()
	d := n.devices[index]
	n.mu.Unlock()
	if u.Header.Type == deleted {
		if d != nil {
			d.gone()
			n.mu.Lock()
			delete(n.devices, index)
			n.mu.Unlock()
		}
		return
	}
	if d == nil {
		d = n.meet(ctx, u.Link)
	}
	if d != nil {
		d.linked(hasCarrier(u.Link))
	}
}

// deleted is RTM_DELLINK.
const deleted = 17

// meet looks at a link that is new, and begins with it when something is said of it.
func (n *Network) meet(ctx context.Context, l netlink.Link) *device {
	if !wanted(l) {
		return nil
	}
	n.makeVLANs(ctx, l)
	if master := n.masterOf(l); master != "" {
		if err := enslave(l, master); err != nil {
			n.cfg.Say("%s: %v", l.Attrs().Name, err)
		}
		return nil
	}
	spec := n.specOf(l)
	if spec == nil {
		return nil
	}
	d := newDevice(n, l, *spec)
	n.mu.Lock()
	n.devices[l.Attrs().Index] = d
	n.mu.Unlock()
	go d.run(ctx)
	return d
}

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

// address takes what the kernel says of an address.
func (n *Network) address(u netlink.AddrUpdate) {
	n.mu.Lock()
	d := n.devices[u.LinkIndex]
	n.mu.Unlock()
	if d != nil && u.NewAddr {
		d.addressed(u)
	}
}
