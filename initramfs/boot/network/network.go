// Package network brings a node into its network: it brings up the devices, makes bonds and VLANs, gets addresses, and keeps them.
//
// All devices are tried at once. The first that has an address is enough to go on; the others, and the renewal of leases, go on in the
// background as long as the context. It owns the addresses and routes that it makes and resolv.conf. It never takes an address away because
// its lease ran out: what a node runs from may lie behind it.
package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
)

// Config says what there is to bring up.
type Config struct {
	Links    []cmdline.Link // none: every device, by any means
	Hostname string         // to tell DHCP servers; "" for none
	BootMAC  net.HardwareAddr
	Resolv   string // file for the resolver, such as /etc/resolv.conf
	// Say tells a line about a device.
	Say func(format string, args ...any) `json:"-"`
	// Timing is for tests; zero fields get defaults.
	Timing Timing

	linkAdd func(netlink.Link) error // for tests
}

// Timing says how long is waited.
type Timing struct {
	Answer  time.Duration // for a DHCP server, before it is asked again
	Pause   time.Duration // between two rounds of asking; doubles, with jitter
	Longest time.Duration // no pause is longer
	IPv4    time.Duration // for an IPv4 address when there is one of IPv6 already
	Router  time.Duration // for a router that gives addresses, before a DHCPv6 server is asked
	Probe   time.Duration // for who else has an address that a DHCP server gave
	Boot    time.Duration // for the device that the node booted from, when another one has an address
	Silence time.Duration // before it is told that no device has a link
}

func (t Timing) withDefaults() Timing {
	for to, d := range map[*time.Duration]time.Duration{&t.Answer: 2 * time.Second, &t.Pause: time.Second, &t.Longest: 30 * time.Second,
		&t.IPv4: 5 * time.Second, &t.Router: 2 * time.Second, &t.Probe: 2 * time.Second, &t.Boot: 10 * time.Second, &t.Silence: 10 * time.Second} {
		if *to <= 0 {
			*to = d
		}
	}
	return t
}

// Settings is what is known by a device that has an address.
type Settings struct {
	Device   string
	MAC      net.HardwareAddr
	Address  netip.Prefix
	From     string // who gave it: a server, a router, or the command line
	DNS      []netip.Addr
	Search   []string
	NTP      []string
	Hostname string
}

func (s *Settings) String() string { return fmt.Sprintf("%s %s from %s", s.Device, s.Address, s.From) }

// Network is what is being brought up.
type Network struct {
	cfg Config

	mu      sync.Mutex
	devices map[int]*device // by index
	vlans   map[string]int  // index of the parent that a VLAN was made on, by its name
	known   map[string]Settings
	order   []string // keys of known as they came, those of the device that the node booted from first
	booted  int      // how many these are
	ready   chan struct{}
	first   string // key of the one to go on with
	resolv  string // what the file of the resolver says
}

// Start brings up the devices that are there and those that come, until ctx ends.
func Start(ctx context.Context, cfg Config) (*Network, error) {
	cfg.Timing = cfg.Timing.withDefaults()
	if len(cfg.Links) == 0 {
		cfg.Links = []cmdline.Link{{Method: cmdline.Auto}}
	}
	if cfg.linkAdd == nil {
		cfg.linkAdd = netlink.LinkAdd
	}
	n := &Network{cfg: cfg, devices: map[int]*device{}, vlans: map[string]int{}, known: map[string]Settings{}, ready: make(chan struct{})}
	if lo, err := netlink.LinkByName("lo"); err == nil {
		_ = netlink.LinkSetUp(lo) // it says so itself when something needs it
	}
	for _, l := range cfg.Links {
		if len(l.Bond) > 0 {
			n.insist(ctx, l.Device, func() error {
				if err := n.makeBond(l); err != nil {
					return err
				}
				n.joinAll(l.Device)
				return nil
			})
		}
	}
	if err := n.watch(ctx); err != nil {
		return nil, fmt.Errorf("watch the devices of the network: %w", err)
	}
	go n.complain(ctx)
	return n, nil
}

// Wait waits until there is an address to go on with, and gives what is known with it. Of servers for DNS and the time all that are known
// are given.
func (n *Network) Wait(ctx context.Context) (Settings, error) {
	select {
	case <-n.ready:
	case <-ctx.Done():
		return Settings{}, context.Cause(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.known[n.first]
	all := n.merged()
	s.DNS, s.NTP, s.Search = all.DNS, all.NTP, all.Search
	if s.Hostname == "" {
		s.Hostname = all.Hostname
	}
	return s, nil
}

// MAC gives the address of the device that the node booted from, else of the one that is used, else of any; nil when there is none.
func (n *Network) MAC() net.HardwareAddr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cfg.BootMAC != nil {
		return n.cfg.BootMAC
	}
	if s, ok := n.known[n.first]; ok && len(s.MAC) == 6 {
		return s.MAC
	}
	lowest := -1
	for i, d := range n.devices {
		if (lowest < 0 || i < lowest) && len(d.hardware()) == 6 {
			lowest = i
		}
	}
	if lowest < 0 {
		return nil
	}
	return n.devices[lowest].hardware()
}

// complain tells when no device has a link, which is what is wrong most often.
func (n *Network) complain(ctx context.Context) {
	for wait := n.cfg.Timing.Silence; ; wait = min(2*wait, 5*time.Minute) {
		select {
		case <-n.ready:
			return
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		n.mu.Lock()
		var without, with int
		for _, d := range n.devices {
			if d.carrier() {
				with++
			} else {
				without++
			}
		}
		n.mu.Unlock()
		switch {
		case with+without == 0:
			n.cfg.Say("there is no device that windlass.net fits: is its driver in the initramfs?")
		case with == 0:
			n.cfg.Say("none of %d devices has a link: is the cable in, and the switch on?", without)
		}
	}
}

// hasCarrier says whether a link has somebody at its other end.
func hasCarrier(l netlink.Link) bool { return l.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 }
