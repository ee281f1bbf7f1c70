package network

import (
	"net/netip"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// static gives the addresses of the command line.
func (d *device) static() {
	for _, p := range d.spec.Addresses {
		if err := d.setAddress(p); err != nil {
			d.say("%v", err)
			return
		}
	}
	for _, gw := range d.spec.Gateways {
		d.tell(d.setRoute(netip.Prefix{}, gw))
	}
	for _, r := range d.spec.Routes {
		d.tell(d.setRoute(r.To, r.Via))
	}
	s := d.settings(d.spec.Addresses[0])
	s.From = "the command line"
	e := atOnce
	if !d.net.leads(d.spec) {
		e = never
	}
	d.net.add(d, "static", s, e)
}

// leads says whether a device will lead out of its own network.
func leads(l cmdline.Link) bool {
	return len(l.Gateways) > 0 || l.Method != cmdline.Static && l.Method != cmdline.None
}
