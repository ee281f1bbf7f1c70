package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// enough says how a boot goes on with what a device got.
type enough int

const (
	atOnce enough = iota
	later         // something better may come, as an IPv4 address beside one of IPv6: it is waited for a while
	never         // it leads nowhere, and there are other devices that do
)

// add takes what a device got.
func (n *Network) add(d *device, source string, s Settings, e enough) {
	key := d.name + " " + source
	n.mu.Lock()
	old, had := n.known[key]
	if !had {
		n.place(key, d)
	}
	n.known[key] = s
	err := n.writeResolv()
	n.mu.Unlock()
	if err != nil {
		d.say("name servers: %v", err)
	}
	if !had || old.Address != s.Address {
		d.say("%s from %s", s.Address, s.From)
	}
	wait := time.Duration(0)
	if e == later {
		wait = n.cfg.Timing.IPv4
	}
	if e != never && !n.goesOn() {
		if better := d.waitsFor(); better != "" {
			wait = max(wait, n.cfg.Timing.Boot)
			d.say("%s, which the node booted from, is waited for, %.0f s at most", better, wait.Seconds())
		}
	}
	switch {
	case e == never:
	case wait == 0:
		n.goOn(key)
	default:
		time.AfterFunc(wait, func() { n.goOn(key) })
	}
}

// place adds a key to the order: what is known by the device that the node booted from comes first. It is called with the lock held.
func (n *Network) place(key string, d *device) {
	if !d.boots() {
		n.order = append(n.order, key)
		return
	}
	n.order = slices.Insert(n.order, n.booted, key)
	n.booted++
}

func (n *Network) goesOn() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.first != ""
}

// laterIf says that an address may be followed by a better one.
func laterIf(so bool) enough {
	if so {
		return later
	}
	return atOnce
}

// goOn lets the boot go on.
func (n *Network) goOn(key string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.first == "" {
		n.first = key
		close(n.ready)
	}
}

// announced takes name servers and domains that a router announces.
func (n *Network) announced(index int, dns []netip.Addr, search []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := n.devices[index]
	if d == nil {
		return
	}
	key := d.name + " announced"
	s, had := n.known[key]
	if !had {
		n.place(key, d)
	}
	if dns = onLink(servers(dns), d.name); len(dns) > 0 {
		s.DNS = dns
	}
	if len(search) > 0 {
		s.Search = search
	}
	n.known[key] = s
	if err := n.writeResolv(); err != nil {
		d.say("name servers: %v", err)
	}
}

// merged puts together what all devices know. It is called with the lock held.
func (n *Network) merged() (all Settings) {
	for _, key := range n.order {
		s := n.known[key]
		for _, a := range s.DNS {
			if !slices.Contains(all.DNS, a) {
				all.DNS = append(all.DNS, a)
			}
		}
		for _, w := range s.Search {
			all.Search = addDomain(all.Search, w)
		}
		for _, t := range s.NTP {
			if !slices.Contains(all.NTP, t) && len(all.NTP) < maxTime {
				all.NTP = append(all.NTP, t)
			}
		}
		if all.Hostname == "" {
			all.Hostname = s.Hostname
		}
	}
	return all
}

// writeResolv writes the file of the resolver, whole or not at all. It is called with the lock held.
func (n *Network) writeResolv() error {
	all := n.merged()
	if len(all.DNS) == 0 || n.cfg.Resolv == "" {
		return nil
	}
	var b strings.Builder
	for _, a := range all.DNS[:min(len(all.DNS), maxServers)] {
		fmt.Fprintf(&b, "nameserver %s\n", a)
	}
	if len(all.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(all.Search, " "))
	}
	if b.String() == n.resolv { // routers say the same each few seconds
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(n.cfg.Resolv), 0o755); err != nil {
		return err
	}
	head := "# written by windlass at " + time.Now().UTC().Format(time.RFC3339) + "\n"
	tmp := n.cfg.Resolv + ".new"
	if err := os.WriteFile(tmp, []byte(head+b.String()), 0o644); err != nil { //nolint:gosec // everybody resolves names
		return err
	}
	if err := os.Rename(tmp, n.cfg.Resolv); err != nil {
		return err
	}
	n.resolv = b.String()
	return nil
}
