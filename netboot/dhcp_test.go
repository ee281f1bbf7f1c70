package netboot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
)

// client opens a DHCP client on a node.
func (n *node) client(t *testing.T) *nclient4.Client {
	t.Helper()
	var c *nclient4.Client
	n.inside(t, func() (err error) {
		c, err = nclient4.New("eth0", nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(5))
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// udhcpc runs busybox's client once; what it was given comes as lines NAME=VALUE.
func (n *node) udhcpc(t *testing.T, b *bench) string {
	t.Helper()
	script := filepath.Join(b.dir, "udhcpc.sh")
	must(t, os.WriteFile(script, []byte(`#!/bin/sh
case $1 in
deconfig) ip address flush dev $interface ;;
bound|renew) ip address replace $ip/$mask dev $interface; for v in ip mask router dns domain hostname lease serverid siaddr boot_file; do eval "echo $v=\$$v"; done ;;
esac
`), 0o755))
	return n.run(t, "busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-t", "20", "-T", "1", "-f", "-s", script)
}

func TestRealClientsGetTheirLeases(t *testing.T) {
	b := newBench(t)
	s := b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", ""))
	n1, n2 := b.node(t, "n1", "52:54:00:00:00:01"), b.node(t, "n2", "52:54:00:00:00:02")
	out := n1.udhcpc(t, b)
	for _, want := range []string{"ip=10.1.0.11\n", "mask=24\n", "router=10.1.0.254\n", "dns=10.1.0.253\n", "domain=cluster.test\n", "hostname=n1\n", "lease=600\n", "serverid=10.1.0.1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("udhcpc was not given %q:\n%s", want, out)
		}
	}
	s.log.wait(t, "leased", "ip=10.1.0.11", "node=n1")

	c := n2.client(t)
	lease, err := c.Request(within(t))
	must(t, err)
	ip := lease.ACK.YourIPAddr.String()
	if !strings.HasPrefix(ip, "10.1.0.1") || len(ip) != len("10.1.0.100") {
		t.Errorf("the pool gave %s", ip)
	}
	n2.address(t, ip)
	again, err := c.Request(within(t))
	must(t, err)
	if got := again.ACK.YourIPAddr.String(); got != ip {
		t.Errorf("%s became %s when asked for again", ip, got)
	}
	// it renews, by unicast, as who has the address
	renewed := n2.ask(t, dhcpv4.MessageTypeRequest, true, dhcpv4.WithClientIP(lease.ACK.YourIPAddr))
	if renewed.MessageType() != dhcpv4.MessageTypeAck || renewed.YourIPAddr.String() != ip || renewed.IPAddressLeaseTime(0) != 10*time.Minute {
		t.Errorf("renewing gave %s", renewed.Summary())
	}
	informed := n2.ask(t, dhcpv4.MessageTypeInform, true, dhcpv4.WithClientIP(lease.ACK.YourIPAddr))
	if informed.MessageType() != dhcpv4.MessageTypeAck || !informed.YourIPAddr.IsUnspecified() || informed.IPAddressLeaseTime(0) != 0 || informed.HostName() != "n2" {
		t.Errorf("INFORM gave %s", informed.Summary())
	}
	n2.tell(t, dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(lease.ACK.YourIPAddr), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(serverAddr))))
	s.log.wait(t, "released", "ip="+ip)
}

// ask sends one message as a node that has its address, from port 68, and gives the answer.
func (n *node) ask(t *testing.T, mt dhcpv4.MessageType, unicast bool, mods ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(n.hw), dhcpv4.WithMessageType(mt)}, mods...)...)
	must(t, err)
	var conn *net.UDPConn
	n.inside(t, func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 68})
		return err
	})
	defer conn.Close()
	buf := make([]byte, 1500)
	for range 10 {
		_, err = conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.ParseIP(serverAddr), Port: 67})
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(2*time.Second)))
		k, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		must(t, err)
		reply, err := dhcpv4.FromBytes(buf[:k])
		must(t, err)
		if reply.TransactionID == m.TransactionID {
			return reply
		}
	}
	t.Fatalf("no answer to %s", mt)
	return nil
}

// tell sends a message that is not answered.
func (n *node) tell(t *testing.T, mt dhcpv4.MessageType, mods ...dhcpv4.Modifier) {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(n.hw), dhcpv4.WithMessageType(mt)}, mods...)...)
	must(t, err)
	n.inside(t, func() error {
		conn, err := net.DialUDP("udp4", &net.UDPAddr{Port: 68}, &net.UDPAddr{IP: net.ParseIP(serverAddr), Port: 67})
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(m.ToBytes())
		return err
	})
}

func TestLeasesOutliveTheServer(t *testing.T) {
	b := newBench(t)
	config := b.site(t, "dhcp", "10.1.0.100-10.1.0.101", "")
	n2, n3 := b.node(t, "n2", "52:54:00:00:00:02"), b.node(t, "n3", "52:54:00:00:00:03")
	c2, c3 := n2.client(t), n3.client(t)
	first := b.serve(t, config)
	lease, err := c2.Request(within(t))
	must(t, err)
	first.kill(t, syscall.SIGKILL)

	second := b.serve(t, config)
	other, err := c3.Request(within(t))
	must(t, err)
	if other.ACK.YourIPAddr.Equal(lease.ACK.YourIPAddr) {
		t.Fatalf("after SIGKILL %s was given to a second node", other.ACK.YourIPAddr)
	}
	again, err := c2.Request(within(t))
	must(t, err)
	if !again.ACK.YourIPAddr.Equal(lease.ACK.YourIPAddr) {
		t.Errorf("after SIGKILL %s became %s", lease.ACK.YourIPAddr, again.ACK.YourIPAddr)
	}
	second.kill(t, syscall.SIGTERM)

	third := b.serve(t, config)
	n2.address(t, lease.ACK.YourIPAddr.String())
	if r := n2.ask(t, dhcpv4.MessageTypeRequest, true, dhcpv4.WithClientIP(lease.ACK.YourIPAddr)); r.MessageType() != dhcpv4.MessageTypeAck {
		t.Errorf("after a restart renewing gave %s", r.Summary())
	}
	third.log.wait(t, "netboot is ready", "leases=2")
}

func TestADryPoolIsToldAndServiceGoesOn(t *testing.T) {
	b := newBench(t)
	s := b.serve(t, b.site(t, "dhcp", "10.1.0.100", ""))
	n1, n2, n3 := b.node(t, "n1", "52:54:00:00:00:01"), b.node(t, "n2", "52:54:00:00:00:02"), b.node(t, "n3", "52:54:00:00:00:03")
	_, err := n2.client(t).Request(within(t))
	must(t, err)
	short, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if l, err := n3.client(t).Request(short); err == nil {
		t.Errorf("a dry pool gave %s", l.ACK.YourIPAddr)
	}
	s.log.wait(t, "level=warning", "no address is left in 10.1.0.0/24", "52:54:00:00:00:03")
	l, err := n1.client(t).Request(within(t))
	must(t, err)
	if l.ACK.YourIPAddr.String() != "10.1.0.11" {
		t.Errorf("n1 got %s", l.ACK.YourIPAddr)
	}
	n1.address(t, "10.1.0.11")
	if m := n1.run(t, "curl", "-sf", "http://10.1.0.1:8080/metrics"); !strings.Contains(m, `windlass_netboot_dhcp_dropped_total{interface="br0",reason="dry"}`) ||
		!strings.Contains(m, `windlass_netboot_pool_used{subnet="10.1.0.0/24"} 1`) {
		t.Errorf("the metrics do not tell of the dry pool:\n%s", m)
	}
	if out := n1.run(t, "curl", "-sf", "http://10.1.0.1:8080/nodes?format=table"); !strings.Contains(out, "no address is left") {
		t.Errorf("the table does not tell of the dry pool:\n%s", out)
	}
}

func TestUnlistedNodesAreIgnoredUnlessToldOtherwise(t *testing.T) {
	b := newBench(t)
	config := b.site(t, "dhcp", "10.1.0.100-10.1.0.120", "")
	x := b.node(t, "x", "52:54:00:00:00:99")
	c := x.client(t)
	s := b.serve(t, config)
	short, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if l, err := c.Request(short); err == nil {
		t.Errorf("a node that is not listed got %s", l.ACK.YourIPAddr)
	}
	s.log.wait(t, "ignored a node that is not listed", "52:54:00:00:00:99")
	s.kill(t, syscall.SIGTERM)
	b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", "unknown: default-group\ndefault_group: compute\n"))
	l, err := c.Request(within(t))
	must(t, err)
	if l.ACK.HostName() != "node-525400000099" {
		t.Errorf("the node is called %q", l.ACK.HostName())
	}
}

func TestAnotherServerOnTheWireIsNoticed(t *testing.T) {
	b := newBench(t)
	s := b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", ""))
	d := b.node(t, "d", "52:54:00:00:00:dd")
	d.address(t, "10.1.0.2")
	dnsmasq := start(t, nil, "ip", "netns", "exec", "d", "dnsmasq", "-d", "-C", "/dev/null", "--port=0", "--interface=eth0", "--no-ping", "--dhcp-range=10.1.0.200,10.1.0.210,1h",
		"--dhcp-leasefile="+filepath.Join(b.dir, "d.leases"), "--log-dhcp", "--user=root", "--pid-file=")
	dnsmasq.log.wait(t, "DHCP, IP range")
	n2 := b.node(t, "n2", "52:54:00:00:00:02")
	offer, err := n2.client(t).DiscoverOffer(within(t), dhcpv4.WithBroadcast(true))
	must(t, err)
	// the node takes the other's offer, whichever came first
	m, err := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 1, 0, 2))), dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 1, 0, 205))))
	must(t, err)
	_, err = n2.client(t).SendAndRead(within(t), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}, m, nil)
	must(t, err)
	s.log.wait(t, "level=warning", "another DHCP server gives addresses on this wire", "server=10.1.0.2", "wire=br0")
	// service goes on: ours offers too
	n1 := b.node(t, "n1", "52:54:00:00:00:01")
	ask, err := dhcpv4.NewDiscovery(n1.hw, dhcpv4.WithBroadcast(true))
	must(t, err)
	ours, err := n1.client(t).SendAndRead(within(t), &net.UDPAddr{IP: net.IPv4bcast, Port: 67}, ask, nclient4.IsCorrectServer(net.ParseIP(serverAddr)))
	must(t, err)
	if ours.YourIPAddr.String() != "10.1.0.11" {
		t.Errorf("n1 was offered %s", ours.YourIPAddr)
	}
	if m := d.run(t, "curl", "-sf", "http://10.1.0.1:8080/metrics"); !strings.Contains(m, `windlass_netboot_dhcp_other_server_total{interface="br0"}`) {
		t.Error("the metrics do not tell of the other server")
	}
}

func TestWhoMayNotHaveAnAddressIsToldSo(t *testing.T) {
	b := newBench(t)
	b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", ""))
	n2 := b.node(t, "n2", "52:54:00:00:00:02")
	n2.address(t, "10.1.0.11")
	reply := n2.ask(t, dhcpv4.MessageTypeRequest, true, dhcpv4.WithClientIP(net.IPv4(10, 1, 0, 11)))
	if reply.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("n2 may have the address of n1: %s", reply.Summary())
	}
}

func TestADeclinedAddressIsNotGivenAgain(t *testing.T) {
	b := newBench(t)
	s := b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.101", ""))
	n2 := b.node(t, "n2", "52:54:00:00:00:02")
	c := n2.client(t)
	l, err := c.Request(within(t))
	must(t, err)
	n2.address(t, "10.1.0.77") // to speak at all
	n2.tell(t, dhcpv4.MessageTypeDecline, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(l.ACK.YourIPAddr)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(serverAddr))))
	s.log.wait(t, "used by somebody else", "ip="+l.ACK.YourIPAddr.String())
	again, err := c.Request(within(t))
	must(t, err)
	if again.ACK.YourIPAddr.Equal(l.ACK.YourIPAddr) {
		t.Error("the declined address was given again")
	}
}

// Somebody has set up an address of the pool by hand: it is not offered, a line tells who, and what is offered instead comes in time.
func TestAnAddressThatSomebodyElseUsesIsNotOffered(t *testing.T) {
	t.Run("looked for", func(t *testing.T) {
		b, s, n2 := squatted(t, "")
		conn := n2.port68(t)
		if got := offered(t, conn, n2.hw); got != "10.1.0.101" {
			t.Errorf("offered is %s", got)
		}
		s.log.wait(t, "level=warning", "is used by somebody who did not get it from here", "ip=10.1.0.100", "52:54:00:00:00:55")
		if ip := obtain(t, conn, n2.hw); ip.String() != "10.1.0.101" {
			t.Errorf("n2 got %s", ip)
		}
		n2.address(t, "10.1.0.101")
		if m := n2.run(t, "curl", "-sf", "http://10.1.0.1:8080/metrics"); !strings.Contains(m, `windlass_netboot_dhcp_dropped_total{interface="br0",reason="conflict"} 1`) {
			t.Error("the metrics do not tell of it")
		}
		if st := b.status(t, n2)["n2"]; st.Error != nil {
			t.Errorf("the node is shown with an error that is not its own: %+v", st)
		}
	})
	t.Run("not looked for", func(t *testing.T) {
		_, _, n2 := squatted(t, ", probe: false")
		if got := offered(t, n2.port68(t), n2.hw); got != "10.1.0.100" {
			t.Errorf("offered is %s", got)
		}
	})
}

// squatted is a wire on which somebody has the first address of the pool, a server, and a node.
func squatted(t *testing.T, more string) (*bench, *service, *node) {
	t.Helper()
	b := newBench(t)
	config := b.site(t, "dhcp", "10.1.0.100-10.1.0.101", "")
	text, err := os.ReadFile(config)
	must(t, err)
	must(t, os.WriteFile(config, bytes.Replace(text, []byte("mode: dhcp}"), []byte("mode: dhcp"+more+"}"), 1), 0o644))
	s := b.serve(t, config)
	squatter, n2 := b.node(t, "sq", "52:54:00:00:00:55"), b.node(t, "n2", "52:54:00:00:00:02")
	squatter.address(t, "10.1.0.100")
	return b, s, n2
}

// offered asks for the first address of the pool, and gives what is offered.
func offered(t *testing.T, conn *net.UDPConn, hw net.HardwareAddr) string {
	t.Helper()
	d, err := dhcpv4.NewDiscovery(hw, dhcpv4.WithBroadcast(true), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 1, 0, 100))))
	must(t, err)
	o := exchange(t, conn, d)
	if o == nil {
		t.Fatal("nothing is offered within 2 s")
	}
	return o.YourIPAddr.String()
}

// boots is what firmware of each sort asks, and is told.
func TestFirmwareIsToldWhatToBoot(t *testing.T) {
	b := newBench(t)
	b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", ""))
	n1 := b.node(t, "n1", "52:54:00:00:00:01")
	c := n1.client(t)
	uuid := append([]byte{0}, []byte("0123456789abcdef")...)
	firmware := func(class string, arch iana.Arch) []dhcpv4.Modifier {
		return []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)), dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
			dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16})),
			dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, uuid))}
	}
	const script = "http://10.1.0.1:8080/boot/ipxe?mac=52:54:00:00:00:01"
	for name, c1 := range map[string]struct {
		mods        []dhcpv4.Modifier
		file, class string
	}{
		"BIOS":         {firmware("PXEClient:Arch:00000:UNDI:002001", 0), "undionly.kpxe", "PXEClient"},
		"UEFI 7":       {firmware("PXEClient:Arch:00007:UNDI:003016", 7), "ipxe.efi", "PXEClient"},
		"UEFI 9":       {firmware("PXEClient:Arch:00009:UNDI:003016", 9), "ipxe.efi", "PXEClient"},
		"HTTP 16":      {firmware("HTTPClient:Arch:00016:UNDI:003001", 16), "http://10.1.0.1:8080/ipxe/ipxe.efi", "HTTPClient"},
		"class alone":  {firmware("PXEClient:Arch:00007:UNDI:003016", 7)[:1], "ipxe.efi", "PXEClient"},
		"iPXE by 77":   {append(firmware("PXEClient:Arch:00000:UNDI:002001", 0), dhcpv4.WithOption(dhcpv4.OptUserClass("iPXE"))), script, ""},
		"iPXE by 175":  {append(firmware("PXEClient:Arch:00007:UNDI:003010", 7), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(175), []byte{177, 1, 1})), script, ""},
		"no program":   {firmware("PXEClient:Arch:00011:UNDI:003016", 11), "", ""},
		"plain client": {nil, "", ""},
	} {
		l, err := c.Request(within(t), c1.mods...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		a := l.ACK
		if a.BootFileName != c1.file || a.BootFileNameOption() != c1.file || a.ClassIdentifier() != c1.class || a.YourIPAddr.String() != "10.1.0.11" {
			t.Errorf("%s was told\n%s", name, a.Summary())
		}
		next := a.ServerIPAddr.String()
		if c1.file != "" && next != serverAddr {
			t.Errorf("%s: next server is %s", name, next)
		}
		if len(c1.mods) > 1 && c1.file != "" && string(a.Options.Get(dhcpv4.OptionClientMachineIdentifier)) != string(uuid) {
			t.Errorf("%s: its UUID did not come back", name)
		}
		vendor, quick := fmt.Sprint(a.Options.Get(dhcpv4.OptionVendorSpecificInformation)), fmt.Sprint(a.Options.Get(dhcpv4.GenericOptionCode(175)))
		if (vendor == "[6 1 8 255]") != (c1.class == "PXEClient") {
			t.Errorf("%s: option 43 is %s", name, vendor)
		}
		if (quick == "[176 1 1]") != (c1.file == script) {
			t.Errorf("%s: option 175 is %s", name, quick)
		}
	}
}

func TestARelayAgentIsAnswered(t *testing.T) {
	b := newBench(t)
	b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", "  - {name: far, mac: '52:54:00:00:00:04', group: compute}\n"))
	// the agent lives on the wire here, and speaks for a subnet of its own
	agent := b.node(t, "agent", "52:54:00:00:00:aa")
	agent.address(t, "10.1.0.3")
	hw, _ := net.ParseMAC("52:54:00:00:00:04")
	ask := func(giaddr net.IP) *dhcpv4.DHCPv4 {
		m, err := dhcpv4.NewDiscovery(hw, dhcpv4.WithRelay(giaddr), dhcpv4.WithOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(1), []byte("port7")))))
		must(t, err)
		var conn *net.UDPConn
		agent.inside(t, func() (err error) {
			conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 67})
			return err
		})
		defer conn.Close()
		_, err = conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.ParseIP(serverAddr), Port: 67})
		must(t, err)
		must(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
		buf := make([]byte, 1500)
		k, err := conn.Read(buf)
		if err != nil {
			return nil
		}
		reply, err := dhcpv4.FromBytes(buf[:k])
		must(t, err)
		return reply
	}
	r := ask(net.IPv4(10, 1, 0, 3))
	if r == nil || r.MessageType() != dhcpv4.MessageTypeOffer || r.RelayAgentInfo() == nil || !r.GatewayIPAddr.Equal(net.IPv4(10, 1, 0, 3)) {
		t.Errorf("the agent was told %v", r)
	}
	if r := ask(net.IPv4(10, 9, 0, 3)); r != nil {
		t.Errorf("an agent of a network that is not configured was told %s", r.Summary())
	}
}

func TestAnInterfaceThatGoesAwayComesBack(t *testing.T) {
	b := newBench(t)
	s := b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", ""))
	run(t, "ip", "link", "del", b.bridge)
	s.log.wait(t, "level=error", "the interface failed", "wire=br0")
	s.log.wait(t, "level=warning", "the interface is not back yet", "wire=br0")
	health := func() string { return run(t, "curl", "-s", "-w", " %{http_code}", "http://127.0.0.1:8080/healthz") }
	if got := health(); !strings.Contains(got, "br0") || !strings.HasSuffix(got, " 503") {
		t.Errorf("a watchdog is told %s", got)
	}
	run(t, "ip", "link", "add", b.bridge, "type", "bridge", "forward_delay", "0", "stp_state", "0")
	run(t, "ip", "address", "add", serverAddr+"/24", "dev", b.bridge)
	run(t, "ip", "link", "set", b.bridge, "up")
	s.log.wait(t, "level=info", "the interface is back", "wire=br0")
	if got := health(); !strings.HasSuffix(got, " 200") {
		t.Errorf("a watchdog is told %s", got)
	}
	l, err := b.node(t, "n1", "52:54:00:00:00:01").client(t).Request(within(t))
	must(t, err)
	if l.ACK.YourIPAddr.String() != "10.1.0.11" {
		t.Errorf("n1 got %s", l.ACK.YourIPAddr)
	}
}

func TestWhatIsMissingAtTheStartIsTold(t *testing.T) {
	b := newBench(t)
	for more, want := range map[string][]string{
		"interfaces: [{name: none0, mode: dhcp}]": {"failed:", "interface none0"},
		"interfaces: [{name: lo2, mode: dhcp}]":   {"failed:", "lo2 has no IPv4 address"},
	} {
		config := filepath.Join(b.dir, "n.yaml")
		must(t, os.WriteFile(config, []byte(more+"\nstate_dir: state\nsubnets: [{subnet: 10.1.0.0/24}]\n"), 0o644))
		if strings.Contains(more, "lo2") {
			run(t, "ip", "link", "add", "lo2", "type", "bridge")
			defer run(t, "ip", "link", "del", "lo2")
		}
		s := start(t, []string{serveVar + "=" + config}, "/proc/self/exe")
		s.log.wait(t, want...)
	}
}

// What is no request, or too large for one, by DHCP and by TFTP: a line tells of it, it is counted, and service goes on.
func TestHostilePacketsAreToldAndServiceGoesOn(t *testing.T) {
	b := newBench(t)
	s := b.serve(t, b.site(t, "dhcp", "10.1.0.100-10.1.0.120", ""))
	x := b.node(t, "x", "52:54:00:00:00:99")
	x.address(t, "10.1.0.77")
	valid, err := dhcpv4.NewDiscovery(x.hw)
	must(t, err)
	large, err := dhcpv4.NewDiscovery(x.hw, dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionClientIdentifier, bytes.Repeat([]byte{1}, 900))))
	must(t, err)
	dhcp := map[string][]byte{
		"malformed":   valid.ToBytes()[:200],
		"oversized":   large.ToBytes(),
		"no-request":  append([]byte{2}, valid.ToBytes()[1:]...),
		"no-ethernet": append([]byte{1, 99}, valid.ToBytes()[2:]...),
		"no-type":     append(append([]byte(nil), valid.ToBytes()[:240]...), 255),
	}
	conn := x.port68(t)
	to := func(port int, p []byte) {
		t.Helper()
		_, err := conn.WriteTo(p, &net.UDPAddr{IP: net.ParseIP(serverAddr), Port: port})
		must(t, err)
	}
	for range 20 {
		for _, p := range dhcp {
			to(67, p)
		}
		for _, p := range []string{"", "\x00", "\x00\x01", "\x00\x01x", "\x00\x01base.img\x00octet\x00blksize\x00" + strings.Repeat("9", 1300) + "\x00", "\x00\x07\xff\xff", "\x00\x01../secret\x00octet\x00",
			"\x00\x01base.img\x00mail\x00"} {
			to(69, []byte(p))
		}
	}
	to(67, bytes.Repeat([]byte{255}, 1472))
	for reason := range dhcp {
		s.log.wait(t, "level=warning", "reason="+reason)
	}
	s.log.wait(t, "level=warning", "TFTP: not sent", "is refused")
	metrics := x.run(t, "curl", "-sf", "http://10.1.0.1:8080/metrics")
	for reason := range dhcp {
		if !strings.Contains(metrics, `windlass_netboot_dhcp_dropped_total{interface="br0",reason="`+reason+`"} 2`) { // 20 or 21
			t.Errorf("the metrics do not tell of %s", reason)
		}
	}
	n1 := b.booted(t, "n1", "52:54:00:00:00:01", "10.1.0.11")
	n1.run(t, "busybox", "tftp", "-g", "-r", "base.img", "-l", filepath.Join(b.dir, "got"), "10.1.0.1")
}
