package network

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A node that makes many devices at once, as those of containers, can say more of them than is taken. What comes later is seen all the same, and
// what has gone meanwhile.
func TestMoreIsSaidThanIsTaken(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth70")
	f.wire(t, "eth71")
	busy, done := make(chan bool), make(chan bool)
	n, said, _ := start(t, "windlass.net=eth70.5,none windlass.net=eth71,none windlass.net=eth72,dhcp", func(c *Config) {
		c.linkAdd = func(netlink.Link) error { // on the way of what is said
			close(busy)
			<-done
			return unix.EEXIST
		}
	})
	<-busy
	l, err := netlink.LinkByName("eth70")
	must(t, err)
	must(t, netlink.LinkSetUp(l)) // of others the kernel does not tell
	for i := range 2000 {
		must(t, netlink.LinkSetAlias(l, fmt.Sprintf("%0200d", i)))
	}
	gone, err := netlink.LinkByName("eth71")
	must(t, err)
	must(t, netlink.LinkDel(gone))
	close(done)
	f.wire(t, "eth72")
	f.serve(t, "feth72", "10.72.0.1", "10.72.0.9")
	if s := settings(t, n); s.Device != "eth72" {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(said.text(), "no buffer space available") {
		t.Errorf("nothing was lost: said %q", said.text())
	}
	within(t, "what has gone is known", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.devices[gone.Attrs().Index] == nil
	})
}
