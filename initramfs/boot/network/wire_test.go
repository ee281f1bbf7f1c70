package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/cmdline"
	"github.com/windlass-hpc/windlass/internal/namespace"
)

const insideVar = "WINDLASS_NETWORK_TEST_INSIDE"

// TestMain runs the tests in a network of their own, which goes with them.
func TestMain(m *testing.M) {
	inside, code := namespace.Again(insideVar, unix.CLONE_NEWNET|unix.CLONE_NEWNS)
	if inside {
		code = m.Run()
	}
	os.Exit(code)
}

// far is the network at the other end of the wires: a thread in a namespace of its own, which ends with the test.
type far struct{ orders chan func() }

func newFar(t *testing.T) *far {
	f := &far{orders: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for fn := range f.orders {
			fn()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(f.orders) })
	return f
}

func (f *far) do(fn func()) {
	done := make(chan struct{})
	f.orders <- func() { fn(); close(done) }
	<-done
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire makes a device here and its other end there, which is up.
func (f *far) wire(t *testing.T, name string) {
	t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "f" + name}
	must(t, netlink.LinkAdd(v))
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(name); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	peer, err := netlink.LinkByName("f" + name)
	must(t, err)
	// The namespace is that of the thread, not of the process.
	var tid int
	f.do(func() { tid = unix.Gettid() })
	ns, openErr := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", tid))
	must(t, openErr)
	defer ns.Close()
	must(t, netlink.LinkSetNsFd(peer, int(ns.Fd())))
	f.up(t, "f"+name)
}

func (f *far) up(t *testing.T, name string) {
	t.Helper()
	var err error
	f.do(func() {
		var l netlink.Link
		if l, err = netlink.LinkByName(name); err == nil {
			err = netlink.LinkSetUp(l)
		}
	})
	must(t, err)
}

func (f *far) down(t *testing.T, name string) {
	t.Helper()
	var err error
	f.do(func() {
		var l netlink.Link
		if l, err = netlink.LinkByName(name); err == nil {
			err = netlink.LinkSetDown(l)
		}
	})
	must(t, err)
}

func (f *far) address(t *testing.T, name, addr string) {
	t.Helper()
	var err error
	f.do(func() {
		var l netlink.Link
		if l, err = netlink.LinkByName(name); err != nil {
			return
		}
		a, _ := netlink.ParseAddr(addr)
		a.Flags = unix.IFA_F_NODAD
		if a.IP.To4() != nil {
			a.Flags = 0
		}
		err = netlink.AddrAdd(l, a)
	})
	must(t, err)
}

// bridge puts devices of the far end into one network, fbr.
func (f *far) bridge(t *testing.T, names ...string) {
	t.Helper()
	var err error
	f.do(func() {
		err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "fbr"}})
		for _, name := range names {
			var l, br netlink.Link
			if br, err = netlink.LinkByName("fbr"); err != nil {
				return
			}
			if l, err = netlink.LinkByName(name); err == nil {
				err = netlink.LinkSetMaster(l, br)
			}
		}
	})
	must(t, err)
	f.up(t, "fbr")
}

// answerer is a DHCP server that answers what its test wants.
type answerer struct {
	mu        sync.Mutex
	own       string
	address   string
	next      string // address after one is declined
	options   []dhcpv4.Modifier
	nak       bool
	asked     map[dhcpv4.MessageType]int
	requested []string // addresses, in DISCOVER
	declined  []string
	wished    dhcpv4.OptionCodeList // in the last REQUEST
	forgets   bool                  // it takes no REQUEST of who has not asked for an address before
}

func (s *answerer) count(m dhcpv4.MessageType) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[m]
}

func (s *answerer) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// serve answers on the far end of a wire, with the address for whoever asks.
func (f *far) serve(t *testing.T, dev, own, address string, options ...dhcpv4.Modifier) *answerer {
	t.Helper()
	s := &answerer{own: own, address: address, options: options, asked: map[dhcpv4.MessageType]int{}}
	f.address(t, dev, own+"/24")
	var srv *server4.Server
	var err error
	f.do(func() {
		srv, err = server4.NewServer(dev, &net.UDPAddr{Port: 67}, func(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
			s.answer(t, conn, m)
		})
	})
	must(t, err)
	go func() { _ = srv.Serve() }()
	t.Cleanup(func() { _ = srv.Close() })
	return s
}

func (s *answerer) answer(t *testing.T, conn net.PacketConn, m *dhcpv4.DHCPv4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[m.MessageType()]++
	kind := dhcpv4.MessageTypeOffer
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		s.requested = append(s.requested, m.RequestedIPAddress().String())
	case dhcpv4.MessageTypeDecline:
		if m.ServerIdentifier().String() != s.own || !m.ClientIPAddr.IsUnspecified() {
			t.Errorf("a DECLINE that no server takes: %s", m.Summary())
		}
		s.declined = append(s.declined, m.RequestedIPAddress().String())
		if s.next != "" {
			s.address = s.next
		}
		return
	case dhcpv4.MessageTypeRequest:
		s.wished = m.ParameterRequestList()
		if s.forgets && !m.ClientIPAddr.IsUnspecified() {
			return
		}
		kind = dhcpv4.MessageTypeAck
		if s.nak {
			kind, s.nak = dhcpv4.MessageTypeNak, false
		}
	}
	modifiers := append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.ParseIP(s.address)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(s.own))),
	}, s.options...)
	r, err := dhcpv4.NewReplyFromRequest(m, modifiers...)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := conn.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68}); err != nil && t.Context().Err() == nil {
		t.Log("answer:", err)
	}
}

// lines keeps what is said.
type lines struct {
	t  *testing.T
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.b, format+"\n", args...)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start brings the network up as the command line says.
func start(t *testing.T, line string, change ...func(*Config)) (*Network, *lines, string) {
	t.Helper()
	o := cmdline.Parse(line, nil)
	if len(o.Warnings) > 0 {
		t.Fatal(o.Warnings)
	}
	said := &lines{t: t}
	resolv := filepath.Join(t.TempDir(), "etc/resolv.conf")
	cfg := Config{Links: o.Links, BootMAC: o.BootMAC, Resolv: resolv, Say: said.say, Hostname: o.Hostname, Timing: Timing{
		Answer: 300 * time.Millisecond, Pause: 100 * time.Millisecond, Longest: 300 * time.Millisecond, IPv4: time.Second, Router: 200 * time.Millisecond,
		Probe: 500 * time.Millisecond, Silence: 200 * time.Millisecond}}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	n, err := Start(ctx, cfg)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("it said:\n%s", said.text())
		}
	})
	return n, said, resolv
}

func settings(t *testing.T, n *Network) Settings {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := n.Wait(ctx)
	must(t, err)
	return s
}

// within waits until something is so.
func within(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// has says whether the device has the address.
func has(name, address string) bool {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return false
	}
	addrs, _ := netlink.AddrList(l, netlink.FAMILY_ALL)
	for _, a := range addrs {
		if a.IPNet.String() == address {
			return true
		}
	}
	return false
}
