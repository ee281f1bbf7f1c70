package rbd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// The ports that monitors listen at: for the first version of Ceph's protocol, and for the second.
const (
	portV1 = 6789
	portV2 = 3300
)

// maxMonitors is how many addresses the kernel takes (CEPH_MAX_MON).
const maxMonitors = 31

// resolveWait bounds the search for the addresses of all names.
const resolveWait = 10 * time.Second

// monitor is an address as the user gave it.
type monitor struct {
	host string     // a name; "" when it is an address
	addr netip.Addr // when it is one
	port uint16
}

func (m monitor) String() string {
	if m.host != "" {
		return m.host + ":" + strconv.Itoa(int(m.port))
	}
	return netip.AddrPortFrom(m.addr, m.port).String()
}

// parseMonitors reads the list of the request. An element is an address or a name with a port or without, also as Ceph itself writes it:
// v2:10.0.0.1:3300/0, or [v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]. What is of the other version of the protocol is left out.
func parseMonitors(list []string, v2 bool) ([]monitor, error) {
	if len(list) == 0 {
		return nil, fault.New(fault.Invalid, "rbd.monitors is missing: name one monitor at least")
	}
	var all []monitor
	for i, text := range list {
		field := fmt.Sprintf("rbd.monitors[%d] %q", i, text)
		parts := []string{text}
		if inner, ok := strings.CutPrefix(text, "[v"); ok && strings.HasSuffix(inner, "]") {
			parts = strings.Split("v"+strings.TrimSuffix(inner, "]"), ",")
		}
		for _, part := range parts {
			m, version, err := parseMonitor(part, v2)
			if err != nil {
				return nil, fault.Hintf(fault.New(fault.Invalid, "%s: %w", field, err), "write it as 10.0.0.1, 10.0.0.1:6789, [fd00::1]:6789 or name:6789")
			}
			if version == wanted(v2) && !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	switch {
	case len(all) == 0:
		err := fault.New(fault.Invalid, "rbd.monitors: none is for version %d of the protocol, which rbd.options.ms_mode asks for", wanted(v2))
		return nil, fault.Hintf(err, "v1: addresses are for ms_mode legacy, v2: addresses for the others")
	case len(all) > maxMonitors:
		return nil, fault.New(fault.Invalid, "rbd.monitors: there are %d, and the kernel takes %d", len(all), maxMonitors)
	}
	return all, nil
}

func wanted(v2 bool) int {
	if v2 {
		return 2
	}
	return 1
}

// parseMonitor reads one; version is that of the prefix, or the wanted one without a prefix.
func parseMonitor(text string, v2 bool) (m monitor, version int, err error) {
	version = wanted(v2)
	for n, prefix := range []string{1: "v1:", 2: "v2:"} {
		// v1:6789 is a machine called v1.
		if rest, ok := strings.CutPrefix(text, prefix); n > 0 && ok && !number(rest) {
			text, version = rest, n
		}
	}
	if address, nonce, ok := strings.Cut(text, "/"); ok {
		if !number(nonce) {
			return m, 0, fmt.Errorf("%q after the slash is no number", nonce)
		}
		text = address
	}
	host, port, err := splitPort(text)
	if err != nil {
		return m, 0, err
	}
	if m.port = port; port == 0 {
		m.port = [...]uint16{1: portV1, 2: portV2}[version]
	}
	if m.addr, err = netip.ParseAddr(host); err == nil {
		if m.addr.Zone() != "" {
			return m, 0, fmt.Errorf("the kernel takes no address with a zone")
		}
		m.addr = m.addr.Unmap()
		return m, version, nil
	}
	if !hostName(host) {
		return m, 0, fmt.Errorf("it is neither an address nor a name")
	}
	m.host = strings.ToLower(strings.TrimSuffix(host, "."))
	return m, version, nil
}

// splitPort gives port 0 when there is none.
func splitPort(text string) (host string, port uint16, err error) {
	host, rest := text, ""
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if host, rest, ok = strings.Cut(inner, "]"); !ok {
			return "", 0, fmt.Errorf("the bracket is not closed")
		}
		if _, err := netip.ParseAddr(host); err != nil || !strings.Contains(host, ":") {
			return "", 0, fmt.Errorf("there is no IPv6 address in the brackets")
		}
	} else if strings.Count(text, ":") == 1 {
		host = text[:strings.Index(text, ":")]
		rest = text[len(host):]
	}
	if rest == "" {
		return host, 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(rest, ":"), 10, 16)
	if err != nil || n == 0 || rest[0] != ':' || !number(rest[1:]) {
		return "", 0, fmt.Errorf("the port %q is not between 1 and 65535", strings.TrimPrefix(rest, ":"))
	}
	return host, uint16(n), nil
}

func number(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func hostName(s string) bool {
	if s == "" || len(s) > 253 || strings.HasPrefix(s, "-") || strings.HasPrefix(s, ".") || strings.Contains(s, "..") || number(strings.ReplaceAll(s, ".", "")) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
}

// lookup finds the addresses of a name; it is (*net.Resolver).LookupNetIP.
type lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// resolve gives the addresses of all monitors, in their order. Names that cannot be resolved do not matter as long as one address is
// left: a cluster is alive with some of its monitors dead.
func resolve(ctx context.Context, all []monitor, find lookup) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	found, errs := make([][]netip.Addr, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, m := range all {
		if m.host == "" {
			found[i] = []netip.Addr{m.addr}
			continue
		}
		wg.Go(func() { found[i], errs[i] = find(ctx, "ip", m.host) })
	}
	wg.Wait()
	var addrs []netip.AddrPort
	var failed []string
	for i, m := range all {
		if errs[i] != nil {
			failed = append(failed, fmt.Sprintf("%s: %v", m.host, errs[i]))
		}
		for _, a := range found[i] {
			addr := netip.AddrPortFrom(a.Unmap().WithZone(""), m.port)
			if len(addrs) < maxMonitors && !slices.Contains(addrs, addr) {
				addrs = append(addrs, addr)
			}
		}
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	err := fault.New(fault.Backend, "rbd.monitors: no address was found of any: %s", strings.Join(failed, "; "))
	return nil, fault.Hintf(err, "check the names and the name server of this node, or give addresses")
}
