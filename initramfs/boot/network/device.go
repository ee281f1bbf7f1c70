package network

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// device is one device while it gets and keeps its addresses.
type device struct {
	net   *Network
	link  netlink.Link
	name  string
	index int
	mac   net.HardwareAddr
	spec  cmdline.Link
	stop  context.CancelFunc

	mu     sync.Mutex
	up     bool
	boot   bool          // it leads to where the node booted from
	change chan struct{} // closed at the next change of what is below
	local  bool          // it has a link-local IPv6 address that can be used
	global netip.Prefix  // an IPv6 address that a router gave
}

func newDevice(n *Network, l netlink.Link, spec cmdline.Link) *device {
	return &device{net: n, link: l, name: l.Attrs().Name, index: l.Attrs().Index, mac: l.Attrs().HardwareAddr, spec: spec,
		stop: func() {}, change: make(chan struct{})}
}

func (d *device) say(format string, args ...any) {
	d.net.cfg.Say("%s: "+format, append([]any{d.name}, args...)...)
}

// update changes what is known of the device, and wakes who waits for it.
func (d *device) update(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fn()
	close(d.change)
	d.change = make(chan struct{})
}

// wait waits until what is known of the device is so.
func (d *device) wait(ctx context.Context, so func() bool) bool {
	for {
		d.mu.Lock()
		ok, change := so(), d.change
		d.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-change:
		case <-ctx.Done():
			return false
		}
	}
}

func (d *device) carrier() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.up
}

func (d *device) hardware() net.HardwareAddr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mac
}

func (d *device) linked(up bool) {
	d.mu.Lock()
	was := d.up
	d.mu.Unlock()
	if was != up {
		d.update(func() { d.up = up })
	}
}

// addressed takes an address that the kernel made itself out of what a router says, or for the link alone.
func (d *device) addressed(a *net.IPNet, flags int) {
	ip, ok := netip.AddrFromSlice(a.IP)
	if !ok || !ip.Is6() || ip.Is4In6() || flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
		return
	}
	ones, _ := a.Mask.Size()
	d.update(func() {
		switch {
		case ip.IsLinkLocalUnicast():
			d.local = true
		case flags&unix.IFA_F_PERMANENT == 0 && !d.global.IsValid():
			d.global = netip.PrefixFrom(ip, ones)
		}
	})
}

// look takes the addresses that the device has already: the kernel may have told them before it told of the device.
func (d *device) look() {
	list, err := netlink.AddrList(d.link, netlink.FAMILY_V6)
	if err != nil {
		return // a kernel without IPv6
	}
	for _, a := range list {
		d.addressed(a.IPNet, a.Flags)
	}
}

// run brings the device up and gets its addresses.
func (d *device) run(ctx context.Context) {
	defer d.stop()
	boot := slices.Contains(d.net.bootDevices(), d.name)
	d.mu.Lock()
	d.boot = boot
	d.mu.Unlock()
	d.prepare()
	if !d.bringUp(ctx) || !d.wait(ctx, func() bool { return d.up }) {
		return
	}
	boot = slices.Contains(d.net.bootDevices(), d.name)
	if l, err := netlink.LinkByIndex(d.index); err == nil { // a bond takes the address of its first device
		d.mu.Lock()
		d.boot = boot
		d.link, d.mac = l, l.Attrs().HardwareAddr
		d.mu.Unlock()
	}
	d.say("has a link, address %s", d.mac)
	var wg sync.WaitGroup
	m := d.spec.Method
	if len(d.spec.Addresses) > 0 {
		wg.Go(func() { d.static() })
	}
	if m == cmdline.Auto || m == cmdline.DHCP {
		wg.Go(func() { d.dhcp4(ctx) })
	}
	if m == cmdline.Auto || m == cmdline.DHCP6 || m == cmdline.RA {
		wg.Go(func() { d.router(ctx) })
	}
	if m == cmdline.Auto || m == cmdline.DHCP6 {
		wg.Go(func() { d.dhcp6(ctx) })
	}
	wg.Wait()
}

// router waits for an address that a router gives.
func (d *device) router(ctx context.Context) {
	if !d.wait(ctx, func() bool { return d.global.IsValid() }) {
		return
	}
	d.mu.Lock()
	s := d.settings(d.global)
	d.mu.Unlock()
	s.From = "a router"
	d.net.add(d, "ra", s, laterIf(d.spec.Method == cmdline.Auto))
}

// settings is what the command line says of the device, with an address. Its lists are the caller's own.
func (d *device) settings(p netip.Prefix) Settings {
	return Settings{Device: d.name, MAC: d.mac, Address: p, DNS: onLink(d.spec.DNS, d.name), Search: slices.Clone(d.spec.Search),
		NTP: slices.Clone(d.spec.NTP), Hostname: d.spec.Hostname}
}

func (d *device) tell(err error) {
	if err != nil {
		d.say("%v", err)
	}
}

// round tells that nobody gave an address: each time while the boot waits, then seldom, as it may be so as long as the node runs.
func (d *device) round(kind string, n int, err error, wait time.Duration) {
	if !d.net.goesOn() || seldom(n) {
		d.say("%s, round %d: %v; again in %.1f s", kind, n, err, wait.Seconds())
	}
}

// seldom says whether the nth of many is told: the first, and then ever fewer.
func seldom(n int) bool { return n&(n-1) == 0 }

// sleep gives false when ctx ended.
func sleep(ctx context.Context, t time.Duration) bool {
	select {
	case <-time.After(t):
		return true
	case <-ctx.Done():
		return false
	}
}
