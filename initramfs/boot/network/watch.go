package network

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/vishvananda/netlink"
)

// watch follows devices, addresses, and what routers announce.
func (n *Network) watch(ctx context.Context) error {
	options, err := announcements(ctx, n.announced) // before any link is up: routers do not wait
	if err != nil {
		n.cfg.Say("name servers that routers announce are not known: %v", err)
	} else {
		go options()
	}
	heard, err := n.subscribe(ctx)
	if err != nil {
		return err
	}
	go func() {
		for heard != nil {
			n.follow(ctx, heard)
			heard = n.again(ctx)
		}
	}()
	return nil
}

// again has the kernel tell all anew, after it said more than was taken. It gives nil when ctx has ended.
func (n *Network) again(ctx context.Context) *events {
	for pause := n.cfg.Timing.Pause; sleep(ctx, pause); pause = min(2*pause, n.cfg.Timing.Longest) {
		heard, err := n.subscribe(ctx)
		if err == nil {
			n.forget()
			return heard
		}
		n.cfg.Say("devices of the network: %v", err)
	}
	return nil
}

// events is what the kernel says of devices and addresses, until one of both ends.
type events struct {
	links chan netlink.LinkUpdate
	addrs chan netlink.AddrUpdate
	stop  context.CancelFunc
}

// subscribe has the kernel tell all that is there, and then what changes.
func (n *Network) subscribe(ctx context.Context) (*events, error) {
	ctx, cancel := context.WithCancel(ctx)
	e := &events{make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64), cancel}
	failed := func(err error) {
		if ctx.Err() == nil {
			n.cfg.Say("devices of the network: %v", err)
		}
	}
	err := netlink.AddrSubscribeWithOptions(e.addrs, ctx.Done(), netlink.AddrSubscribeOptions{ErrorCallback: failed, ListExisting: true})
	if err != nil {
		cancel()
		return nil, err
	}
	err = netlink.LinkSubscribeWithOptions(e.links, ctx.Done(), netlink.LinkSubscribeOptions{ErrorCallback: failed, ListExisting: true})
	if err != nil {
		cancel()
		go drain(e.addrs)
		return nil, err
	}
	return e, nil
}

// follow takes what the kernel says until it says no more.
func (n *Network) follow(ctx context.Context, e *events) {
	defer func() {
		e.stop()
		go drain(e.links) // so that who speaks sees that nobody listens
		go drain(e.addrs)
	}()
	for {
		select {
		case u, ok := <-e.links:
			if !ok || ctx.Err() != nil {
				return
			}
			n.seen(ctx, u)
		case u, ok := <-e.addrs:
			if !ok || ctx.Err() != nil {
				return
			}
			n.address(u)
		}
	}
}

func drain[T any](c <-chan T) {
	for range c { //nolint:revive // what was said before the end
	}
}

// forget ends what is done for devices that have gone without a word.
func (n *Network) forget() {
	n.mu.Lock()
	indexes := slices.Collect(maps.Keys(n.devices))
	n.mu.Unlock()
	for _, i := range indexes {
		var none netlink.LinkNotFoundError
		if _, err := netlink.LinkByIndex(i); errors.As(err, &none) {
			n.lost(i)
		}
	}
}

// lost ends what is done for a device that has gone.
func (n *Network) lost(index int) {
	n.mu.Lock()
	d := n.devices[index]
	delete(n.devices, index)
	n.mu.Unlock()
	if d != nil {
		d.stop()
	}
}

// seen takes what the kernel says of a link.
func (n *Network) seen(ctx context.Context, u netlink.LinkUpdate) {
	index := u.Attrs().Index
	n.mu.Lock()
	d := n.devices[index]
	n.mu.Unlock()
	if u.Header.Type == deleted {
		n.lost(index)
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
	ctx, d.stop = context.WithCancel(ctx)
	n.mu.Lock()
	n.devices[l.Attrs().Index] = d
	n.mu.Unlock()
	d.look()
	go d.run(ctx)
	return d
}

// address takes what the kernel says of an address.
func (n *Network) address(u netlink.AddrUpdate) {
	n.mu.Lock()
	d := n.devices[u.LinkIndex]
	n.mu.Unlock()
	if d != nil && u.NewAddr {
		d.addressed(&u.LinkAddress, u.Flags)
	}
}
