package dhcp

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/netboot/config"
	"github.com/windlass-hpc/windlass/netboot/lease"
	"github.com/windlass-hpc/windlass/netboot/nodes"
)

// counts is a Meter that a test reads.
type counts struct {
	mu sync.Mutex
	by map[string]int
}

func (c *counts) add(s string) { c.mu.Lock(); c.by[s]++; c.mu.Unlock() }

func (c *counts) Message(_, asked, answered string) { c.add(asked + ">" + answered) }
func (c *counts) Dropped(_, reason string)          { c.add(reason) }
func (c *counts) OtherServer(string)                { c.add("other") }

// bench is a handler and what it says.
type bench struct {
	*Handler
	now   func() time.Time
	log   *strings.Builder
	count *counts
	nodes *nodes.Registry
}

func newBench(t testing.TB, more string) *bench {
	t.Helper()
	c, err := config.Parse("/n.yaml", []byte(`
unknown: default-group
default_group: a
groups: {a: {kernel: k}}
files: /
subnets:
  - {subnet: 10.1.0.0/24, ranges: [10.1.0.100-10.1.0.103], router: 10.1.0.1, dns: [10.1.0.2], ntp: [10.1.0.3], domain: `+strings.Repeat("d", 60)+`}
  - {subnet: 10.2.0.0/24, ranges: [10.2.0.100-10.2.0.200]}
nodes: [{name: n1, mac: "52:54:00:00:00:01", ip: 10.1.0.11}]
`+more))
	if err != nil {
		t.Fatal(err)
	}
	var pools []lease.Pool
	for _, s := range c.Subnets {
		pools = append(pools, lease.Pool{Subnet: s.Prefix, Ranges: []lease.Range{{First: s.Ranges[0].First, Last: s.Ranges[0].Last}}})
	}
	table, errs := lease.Open(lease.Options{Dir: filepath.Join(t.TempDir(), "l"), Pools: pools, Static: map[string]netip.Addr{"52:54:00:00:00:01": netip.MustParseAddr("10.1.0.11")}})
	if table == nil {
		t.Fatal(errs)
	}
	b := &bench{now: time.Now, log: &strings.Builder{}, count: &counts{by: map[string]int{}}, nodes: nodes.New(nil, nil)}
	log := logrus.New()
	log.SetOutput(b.log)
	b.Handler = New(Options{Site: c, Leases: table, Nodes: b.nodes, Log: log, Meter: b.count, Now: func() time.Time { return b.now() },
		Node: func(mac string) (config.Node, bool) {
			if n, ok := c.Node(mac); ok {
				return n, true
			}
			return config.Node{MAC: mac, Name: "node", Group: "a"}, true
		},
		Programs: func() map[config.Platform]string {
			return map[config.Platform]string{config.BIOS: "undionly.kpxe", config.EFI64: "ipxe.efi"}
		}})
	return b
}

func wire(mode config.Mode) Wire {
	return Wire{Name: "eth1", Index: 1, Mode: mode, Address: netip.MustParseAddr("10.1.0.1")}
}

func (b *bench) ask(t testing.TB, mode config.Mode, port int, mods ...dhcpv4.Modifier) (*Answer, *dhcpv4.DHCPv4) {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover)}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	a := b.Handle(context.Background(), wire(mode), Packet{Data: m.ToBytes(), From: netip.MustParseAddrPort("10.1.0.50:4011"), Port: port})
	if a == nil {
		return nil, nil
	}
	r, err := dhcpv4.FromBytes(a.Data)
	if err != nil {
		t.Fatal(err)
	}
	return a, r
}

func TestWhereAnswersGo(t *testing.T) {
	b := newBench(t, "")
	ip := func(s string) net.IP { return net.ParseIP(s).To4() }
	for name, c := range map[string]struct {
		mode     config.Mode
		port     int
		mods     []dhcpv4.Modifier
		to, hard string
	}{
		"no address yet": {config.DHCP, 67, nil, "10.1.0.11:68", "52:54:00:00:00:01"},
		"broadcast flag": {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithBroadcast(true)}, "255.255.255.255:68", "ff:ff:ff:ff:ff:ff"},
		"renews":         {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(ip("10.1.0.11"))}, "10.1.0.11:68", ""},
		"refused":        {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(ip("10.1.0.12"))}, "255.255.255.255:68", "ff:ff:ff:ff:ff:ff"},
		"proxy":          {config.Proxy, 67, []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient"))}, "255.255.255.255:68", "ff:ff:ff:ff:ff:ff"},
		"proxy relayed":  {config.Proxy, 67, []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient")), dhcpv4.WithGatewayIP(ip("10.2.0.9"))}, "10.2.0.9:67", ""},
		"port 4011": {config.Proxy, 4011, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient")),
			dhcpv4.WithClientIP(ip("10.1.0.50"))}, "10.1.0.50:4011", ""},
	} {
		a, r := b.ask(t, c.mode, c.port, c.mods...)
		if a == nil {
			t.Errorf("%s: no answer", name)
			continue
		}
		if a.To.String() != c.to || a.Hardware.String() != c.hard {
			t.Errorf("%s: %s goes to %s, %s", name, r.MessageType(), a.To, a.Hardware)
		}
	}
	// who asks through an agent gets an address of the agent's network, and a refusal that is broadcast there
	_, r := b.ask(t, config.DHCP, 67, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 7}), dhcpv4.WithGatewayIP(ip("10.2.0.9")))
	if r == nil || !strings.HasPrefix(r.YourIPAddr.String(), "10.2.0.1") {
		t.Errorf("behind the agent: %v", r)
	}
	a, r := b.ask(t, config.DHCP, 67, dhcpv4.WithGatewayIP(ip("10.2.0.9")), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip("10.1.0.11"))))
	if r == nil || r.MessageType() != dhcpv4.MessageTypeNak || !r.IsBroadcast() || a.To.String() != "10.2.0.9:67" {
		t.Errorf("an address of elsewhere behind the agent: %v", r)
	}
}

func TestWhatIsNotAnswered(t *testing.T) {
	b := newBench(t, "")
	ip := func(s string) net.IP { return net.ParseIP(s).To4() }
	for name, c := range map[string]struct {
		mode config.Mode
		port int
		mods []dhcpv4.Modifier
	}{
		"another server's": {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip("10.1.0.9")))}},
		"no address":       {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest)}},
		"empty inform":     {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeInform)}},
		"release":          {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease), dhcpv4.WithClientIP(ip("10.1.0.11"))}},
		"an answer":        {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer)}},
		"plain at a proxy": {config.Proxy, 67, nil},
		"proxy request":    {config.Proxy, 67, []dhcpv4.Modifier{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient"))}},
		"off":              {config.Off, 67, nil},
		"multicast":        {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithHwAddr(net.HardwareAddr{1, 0, 0, 0, 0, 1})}},
		"long address":     {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithHwAddr(make(net.HardwareAddr, 16))}},
		"other network":    {config.DHCP, 67, []dhcpv4.Modifier{dhcpv4.WithGatewayIP(ip("10.9.0.9"))}},
		"proxy, elsewhere": {config.Proxy, 67, []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient")), dhcpv4.WithGatewayIP(ip("10.9.0.9"))}},
	} {
		if a, r := b.ask(t, c.mode, c.port, c.mods...); a != nil {
			t.Errorf("%s: %s", name, r.Summary())
		}
	}
	if b.count.by["other"] != 1 || !strings.Contains(b.log.String(), "another DHCP server") {
		t.Errorf("the other server is not told of: %v", b.count.by)
	}
}

func TestAnswersFitAndCannotBeBlownUp(t *testing.T) {
	b := newBench(t, "")
	long := make([]byte, 250)
	_, r := b.ask(t, config.DHCP, 67, dhcpv4.WithGeneric(dhcpv4.OptionClientIdentifier, long), dhcpv4.WithGeneric(dhcpv4.OptionClassIdentifier, []byte("PXEClient")))
	if r == nil || len(r.ToBytes()) > minMessage-headers {
		t.Errorf("the answer has %d bytes", len(r.ToBytes()))
	}
	if a, _ := b.ask(t, config.DHCP, 67, dhcpv4.WithGeneric(dhcpv4.OptionClientIdentifier, make([]byte, 900))); a != nil {
		t.Error("an identifier of 900 bytes is answered")
	}
	if a := b.Handle(context.Background(), wire(config.DHCP), Packet{Data: make([]byte, 4000), Port: 67}); a != nil || b.count.by["oversized"] != 2 {
		t.Errorf("oversized packets: %v", b.count.by)
	}
}

func TestAFloodIsAFewLines(t *testing.T) {
	b := newBench(t, "")
	b.now = func() time.Time { return time.Unix(1000, 0) } // however long it takes
	for i := range 5000 {
		b.Handle(context.Background(), wire(config.DHCP), Packet{Data: []byte{byte(i), byte(i >> 8)}, Port: 67})
		b.ask(t, config.DHCP, 67, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 1, byte(i >> 8), byte(i)}))
		b.ask(t, config.DHCP, 67, dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 3, byte(i>>8), byte(i)))))
	}
	if lines := strings.Count(b.log.String(), "\n"); lines > 300 {
		t.Errorf("%d lines", lines)
	}
	if b.count.by["malformed"] != 5000 || b.count.by["dry"] < 4900 || b.count.by["other"] != 5000 {
		t.Errorf("counted were %v", b.count.by)
	}
	if _, r := b.ask(t, config.DHCP, 67); r == nil || r.YourIPAddr.String() != "10.1.0.11" {
		t.Errorf("after a flood n1 gets %v", r)
	}
}

func TestABootIsCountedOnce(t *testing.T) {
	b := newBench(t, "")
	pxe := dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00000"))
	take := dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 1, 0, 11)))
	request := dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest)
	user := dhcpv4.WithOption(dhcpv4.OptUserClass("iPXE"))
	boot := func() {
		for range 3 {
			b.ask(t, config.DHCP, 67, pxe)
		}
		b.ask(t, config.DHCP, 67, pxe, request, take)
		b.ask(t, config.DHCP, 67, pxe, user)
		b.ask(t, config.DHCP, 67, pxe, user, request, take)
		b.nodes.See(nodes.Seen{MAC: "52:54:00:00:00:01", Stage: "running"})
		b.ask(t, config.DHCP, 67)
		b.ask(t, config.DHCP, 67, request, take)
	}
	boot()
	boot()
	if s := b.nodes.All()[0]; s.Boots != 2 || s.Stage != "running" || s.IP != "10.1.0.11" || len(s.Stages) != 4 {
		t.Errorf("%+v", s)
	}
}

func TestAProxyLearnsAddresses(t *testing.T) {
	b := newBench(t, "")
	pxe := dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007"))
	b.ask(t, config.Proxy, 67, pxe)
	b.ask(t, config.Proxy, 67, pxe, dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 1, 0, 205))))
	if s := b.nodes.All()[0]; s.Stage != "lease" || s.IP != "10.1.0.205" || s.Boots != 1 {
		t.Errorf("%+v", s)
	}
	if mac, _ := b.nodes.Who(netip.MustParseAddr("10.1.0.205")); mac != "52:54:00:00:00:01" {
		t.Errorf("the address is of %q", mac)
	}
}

func TestFrame(t *testing.T) {
	p := frame(netip.MustParseAddr("10.1.0.1"), netip.MustParseAddrPort("10.1.0.11:68"), []byte("odd"))
	if checksum(p[:20], 0) != 0 {
		t.Error("the checksum of the header is wrong")
	}
	if checksum(p[20:], sum(p[12:20], 17+uint32(len(p)-20))) != 0 {
		t.Error("the checksum of the datagram is wrong")
	}
}

func FuzzParseARP(f *testing.F) {
	f.Add([]byte("\x00\x01\x08\x00\x06\x04\x00\x02\x52\x54\x00\x00\x00\x55\x0a\x01\x00\x64\x52\x54\x00\x00\x00\x01\x00\x00\x00\x00"))
	f.Add([]byte{0, 1, 8})
	f.Fuzz(func(t *testing.T, p []byte) {
		if ip, hw, ok := parseARP(p); ok && (!ip.Is4() || len(hw) != 6) {
			t.Errorf("%v has %v", hw, ip)
		}
	})
}

func FuzzHandle(f *testing.F) {
	for _, mods := range [][]dhcpv4.Modifier{
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithOption(dhcpv4.OptClassIdentifier("PXEClient:Arch:00007:UNDI:003016")), dhcpv4.WithOption(dhcpv4.OptClientArch(7))},
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptUserClass("iPXE")), dhcpv4.WithClientIP(net.IPv4(10, 1, 0, 11))},
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeInform), dhcpv4.WithGatewayIP(net.IPv4(10, 2, 0, 9)), dhcpv4.WithOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(1), []byte("x"))))},
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 1, 0, 11))), dhcpv4.WithOption(dhcpv4.OptHostName("$(reboot)"))},
	} {
		m, err := dhcpv4.New(append(mods, dhcpv4.WithHwAddr(net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}))...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(m.ToBytes())
		f.Add(m.ToBytes()[:245])
	}
	b := newBench(f, "")
	b.now = func() time.Time { return time.Unix(0, 0) }
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, w := range []Wire{wire(config.DHCP), wire(config.Proxy)} {
			for _, port := range []int{ServerPort, PXEPort} {
				b.log.Reset()
				a := b.Handle(context.Background(), w, Packet{Data: data, From: netip.MustParseAddrPort("10.1.0.50:68"), Port: port})
				b.Overheard(w, data)
				if b.log.Len() > 8000 {
					t.Errorf("said %d bytes", b.log.Len())
				}
				if a == nil {
					continue
				}
				if len(a.Data) > maxMessage || len(a.Data) < 300 || !a.To.IsValid() {
					t.Errorf("answered with %d bytes to %s", len(a.Data), a.To)
				}
				if _, err := dhcpv4.FromBytes(a.Data); err != nil {
					t.Errorf("the answer is none: %v", err)
				}
			}
		}
	})
}
