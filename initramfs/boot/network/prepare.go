package network

import (
	"context"
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

// bringUp brings the device up, however often that fails: a VLAN can only be when its parent is, and some drivers wait for firmware. It gives false
// when ctx has ended, as it does for a device that has gone.
func (d *device) bringUp(ctx context.Context) bool {
	t := d.net.cfg.Timing
	for n, pause := 1, t.Pause; ; n, pause = n+1, min(2*pause, t.Longest) {
		err := netlink.LinkSetUp(d.link)
		if err == nil {
			return true
		}
		if ctx.Err() == nil && seldom(n) {
			d.say("cannot be brought up: %v; it is tried on", err)
		}
		if !sleep(ctx, pause) {
			return false
		}
	}
}

// set sets what the kernel has for a device. Not every kernel has all.
func (d *device) set(family, name, value string) {
	_ = os.WriteFile(filepath.Join("/proc/sys/net", family, "conf", d.name, name), []byte(value), 0)
}
