package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// A resolver cannot reach an address of the link alone without the name of the link (RFC 4007, 11), and not at all what is no address of a node.
func TestNameServersOnTheLink(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth30")
	f.announce(t, "feth30", "fd30::", "::", "ff02::1", "::1", "::ffff:10.0.0.1", "fe80::53", "fd30::53", "fd30::54", "fd30::55")
	_, _, resolv := start(t, "")
	within(t, "the name servers are known", func() bool {
		text, err := os.ReadFile(resolv)
		return err == nil && strings.Contains(string(text), "nameserver")
	})
	text, err := os.ReadFile(resolv)
	must(t, err)
	_, servers, _ := strings.Cut(string(text), "\n")
	if servers != "nameserver fe80::53%eth30\nnameserver fd30::53\nnameserver fd30::54\nsearch lab.example\n" {
		t.Errorf("resolv.conf:\n%s", text)
	}
}

// What stands in the command line for an address of the link means the link of its device.
func TestNameServersOfTheCommandLineOnTheLink(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth31")
	n, _, resolv := start(t, "windlass.net=eth31,10.31.0.2/24,gw=10.31.0.1,dns=fe80::53")
	settings(t, n)
	if text, err := os.ReadFile(resolv); err != nil || !strings.Contains(string(text), "nameserver fe80::53%eth31\n") {
		t.Errorf("resolv.conf: %v\n%s", err, text)
	}
}

// One answer can name thousands of domains; what resolvers take has an end.
func TestManyDomains(t *testing.T) {
	f := newFar(t)
	f.wire(t, "eth32")
	f.wire(t, "eth33")
	many := func(of string) (list []string) {
		for i := range 40 {
			list = append(list, fmt.Sprintf("%s%d", of, i))
		}
		return list
	}
	for dev, own := range map[string]string{"feth32": "10.32.0.", "feth33": "10.33.0."} {
		f.serve(t, dev, own+"1", own+"9", dhcpv4.WithOption(dhcpv4.OptDNS(net.ParseIP(own+"53"))),
			dhcpv4.WithOption(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: many(dev[len(dev)-1:])})))
	}
	n, _, resolv := start(t, "")
	within(t, "both have their lease", func() bool { return has("eth32", "10.32.0.9/24") && has("eth33", "10.33.0.9/24") })
	within(t, "both are in the file", func() bool {
		text, err := os.ReadFile(resolv)
		return err == nil && strings.Contains(string(text), "10.32.0.53") && strings.Contains(string(text), "10.33.0.53")
	})
	text, err := os.ReadFile(resolv)
	must(t, err)
	_, search, _ := strings.Cut(string(text), "search ")
	if got := strings.Fields(search); len(got) != maxDomains {
		t.Errorf("%d domains: %s", len(got), text)
	}
	if s := settings(t, n); len(s.Search) != maxDomains {
		t.Errorf("%d domains are given on", len(s.Search))
	}
	long := &Network{known: map[string]Settings{}}
	for i := range 10 {
		key := fmt.Sprint(i)
		s := Settings{Search: []string{strings.Repeat(key, 100)}}
		for j := range 5 {
			s.NTP = append(s.NTP, fmt.Sprintf("10.0.%d.%d", i, j))
		}
		long.order, long.known[key] = append(long.order, key), s
	}
	if all := long.merged(); len(all.Search) != 2 || len(all.NTP) != maxTime {
		t.Errorf("%d domains of 100 letters, %d time servers", len(all.Search), len(all.NTP))
	}
}

// Lists of the command line are shared by all that a device does at once.
func TestListsAreNotShared(t *testing.T) {
	d := &device{name: "eth0"}
	d.spec.Search = make([]string, 1, 4)
	a, b := d.settings(netip.Prefix{}), d.settings(netip.Prefix{})
	a.Search, b.Search = append(a.Search, "a.example"), append(b.Search, "b.example")
	if a.Search[1] != "a.example" {
		t.Errorf("what one got is what the other got: %q", a.Search)
	}
}
