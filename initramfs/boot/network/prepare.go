package network

import (
	"os"
	"path/filepath"
	"strconv"

	"github.com/vishvananda/netlink"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// prepare sets what must be so before the link is up.
func (d *device) prepare() {
	if d.spec.MTU > 0 {
		if err := netlink.LinkSetMTU(d.link, d.spec.MTU); err != nil {
			d.say("MTU %d: %v", d.spec.MTU, err)
		}
	}
	accept, autoconf := "2", "1" // routers are believed also when the node forwards packets, as for containers
	switch d.spec.Method {
	case cmdline.DHCP, cmdline.Static, cmdline.None:
		accept, autoconf = "0", "0"
	}
	d.set("ipv6", "accept_ra", accept)
	d.set("ipv6", "autoconf", autoconf)
	if d.boots() {
		d.set("ipv6", "ra_defrtr_metric", strconv.Itoa(metric))
	}
	d.set("ipv4", "promote_secondaries", "1") // addresses that others add stay when the one of the lease goes
}

// set sets what the kernel has for a device. Not every kernel has all.
func (d *device) set(family, name, value string) {
	_ = os.WriteFile(filepath.Join("/proc/sys/net", family, "conf", d.name, name), []byte(value), 0)
}
