package network

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// asVLAN makes a device that goes with its parent as a VLAN does, on kernels without; the first times it fails as without the module 8021q.
func asVLAN(failures int32) func(netlink.Link) error {
	var left atomic.Int32
	left.Store(failures)
	return func(l netlink.Link) error {
		if left.Add(-1) >= 0 {
			return unix.EOPNOTSUPP
		}
		return netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: *l.Attrs(), Mode: netlink.MACVLAN_MODE_BRIDGE})
	}
}

func TestAVLANComesInTheEnd(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth60")
	f.serve(t, "feth60", "10.60.0.1", "10.60.0.9")
	n, said, _ := start(t, "windlass.net=eth60.5,dhcp", func(c *Config) { c.linkAdd = asVLAN(2) })
	if s := settings(t, n); s.Device != "eth60.5" || !has("eth60.5", "10.60.0.9/24") {
		t.Errorf("%+v", s)
	}
	if strings.Count(said.text(), "make VLAN 5 of eth60: operation not supported; it is tried on\n") != 1 {
		t.Errorf("said %q", said.text())
	}
}

func TestAVLANOfADeviceThatComesBack(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth61")
	f.serve(t, "feth61", "10.61.0.1", "10.61.0.9")
	n, _, _ := start(t, "windlass.net=eth61.5,dhcp", func(c *Config) { c.linkAdd = asVLAN(0) })
	settings(t, n)
	parent, err := netlink.LinkByName("eth61")
	must(t, err)
	must(t, netlink.LinkDel(parent)) // as when the driver starts its device anew
	within(t, "the VLAN is gone", func() bool { return !has("eth61.5", "10.61.0.9/24") })
	f.wire(t, "eth61")
	f.serve(t, "feth61", "10.61.0.1", "10.61.0.9")
	within(t, "it is there again", func() bool { return has("eth61.5", "10.61.0.9/24") })
}

// A VLAN that somebody has taken away is not made again whenever something changes, nor is its device brought up again.
func TestAVLANIsMadeOnce(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth62")
	var made atomic.Int32
	add := asVLAN(0)
	start(t, "windlass.net=eth62.5,none", func(c *Config) { c.linkAdd = func(l netlink.Link) error { made.Add(1); return add(l) } })
	within(t, "it is made", func() bool { _, err := netlink.LinkByName("eth62.5"); return err == nil })
	f.down(t, "feth62")
	f.up(t, "feth62")
	within(t, "there is a link again", func() bool {
		l, err := netlink.LinkByName("eth62")
		return err == nil && hasCarrier(l)
	})
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
}

// The first device of a bond may be there before the bond can be made.
func TestABondComesInTheEnd(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth63")
	var left atomic.Int32
	left.Store(2)
	n, said, _ := start(t, "windlass.net=team0,none,bond=eth63", func(c *Config) {
		c.linkAdd = func(l netlink.Link) error {
			if left.Add(-1) >= 0 {
				return unix.EOPNOTSUPP
			}
			return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: l.Attrs().Name}}) // takes devices as a bond does
		}
	})
	t.Cleanup(func() {
		if l, err := netlink.LinkByName("team0"); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	within(t, "the device is in it", func() bool {
		l, err := netlink.LinkByName("eth63")
		b, bondErr := netlink.LinkByName("team0")
		return err == nil && bondErr == nil && l.Attrs().MasterIndex == b.Attrs().Index
	})
	if !strings.Contains(said.text(), "team0: make the bond (active-backup): operation not supported; it is tried on\n") {
		t.Errorf("said %q", said.text())
	}
	_ = n
}

// A device may not come up at once: a VLAN whose parent is down, or one whose firmware is not there. Here it has the address of its parent.
func TestADeviceComesUpInTheEnd(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth67")
	f.serve(t, "feth67", "10.67.0.1", "10.67.0.9")
	parent, err := netlink.LinkByName("eth67")
	must(t, err)
	must(t, netlink.LinkSetUp(parent))
	same := netlink.LinkAttrs{Name: "up67", ParentIndex: parent.Attrs().Index, HardwareAddr: parent.Attrs().HardwareAddr}
	l := &netlink.Macvlan{LinkAttrs: same, Mode: netlink.MACVLAN_MODE_BRIDGE}
	must(t, netlink.LinkAdd(l))
	n, said, _ := start(t, "windlass.net=up67,dhcp")
	within(t, "it is told", func() bool { return strings.Contains(said.text(), "up67: cannot be brought up: ") })
	must(t, netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 67}))
	if s := settings(t, n); s.Device != "up67" || s.MAC.String() != "02:00:00:00:00:43" || !has("up67", "10.67.0.9/24") {
		t.Errorf("%+v", s)
	}
}
