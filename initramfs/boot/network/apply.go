package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// metric is that of the device that the node booted from. Of others the one that was found first is preferred.
const metric = 100

func (d *device) metric() int {
	if d.boots() {
		return metric
	}
	return metric + d.index
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// setAddress gives the device an address, for as long as it is up.
func (d *device) setAddress(p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // who gave it has looked, and waiting takes seconds
	}
	if err := netlink.AddrReplace(d.link, a); err != nil {
		return fmt.Errorf("set address %s: %w", p, err)
	}
	return nil
}

func (d *device) dropAddress(p netip.Prefix) error {
	err := netlink.AddrDel(d.link, &netlink.Addr{IPNet: ipNet(p)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("take address %s away: %w", p, err)
	}
	return nil
}

// setRoute makes a route; the default one when to is not valid. A gateway need not be in the network of an address: some hand out /32.
func (d *device) setRoute(to netip.Prefix, via netip.Addr) error {
	r := d.route(to, via)
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("set the route to %s by %s: %w", r.Dst, via, err)
	}
	return nil
}

// dropRoute takes away what setRoute made.
func (d *device) dropRoute(to netip.Prefix, via netip.Addr) error {
	r := d.route(to, via)
	if err := netlink.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("take the route to %s by %s away: %w", r.Dst, via, err)
	}
	return nil
}

func (d *device) route(to netip.Prefix, via netip.Addr) *netlink.Route {
	r := &netlink.Route{LinkIndex: d.index, Priority: d.metric(), Protocol: unix.RTPROT_DHCP}
	if to.IsValid() {
		r.Dst = ipNet(to)
	} else if via.Is6() {
		r.Dst = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	} else {
		r.Dst = &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	if via.IsValid() && !via.IsUnspecified() {
		r.Gw = via.AsSlice()
		r.SetFlag(netlink.FLAG_ONLINK)
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	return r
}
