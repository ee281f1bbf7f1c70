package nfs

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// maxAddresses is how many addresses of a name are tried.
const maxAddresses = 16

// lookup asks the node's resolver.
func lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
}

// addresses gives those of the server that the options allow, in the order in which they are tried.
func (d *Driver) addresses(ctx context.Context, r request) ([]netip.Addr, error) {
	if r.addr.IsValid() {
		return []netip.Addr{r.addr}, nil
	}
	all, err := d.lookup(ctx, r.host)
	if err != nil {
		return nil, explainLookup(ctx, r.host, err)
	}
	var usable []netip.Addr
	for _, a := range all {
		if a = a.Unmap(); r.takes(a) && checkAddress(a) == nil && !slices.Contains(usable, a) {
			usable = append(usable, a)
		}
	}
	if len(usable) == 0 {
		return nil, fault.New(fault.NotFound, "nfs.host: %s has no address that can be used with proto=%s: it has %v", r.host, r.proto, all)
	}
	return usable[:min(len(usable), maxAddresses)], nil
}

func explainLookup(ctx context.Context, host string, err error) error {
	var dns *net.DNSError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault.Hintf(fault.New(fault.NotFound, "nfs.host: the name %s is not known: %w", host, err), "check it, and the resolver of the node")
	case ctx.Err() != nil:
		return fault.New(fault.Timeout, "nfs.host: no name server says what %s is: %w", host, ctx.Err())
	}
	return fault.Hintf(fault.New(fault.Unavailable, "nfs.host: the address of %s cannot be found: %w", host, err), "check the resolver of the node")
}

// takes says whether the options let an address be used: proto=tcp is IPv4 alone.
func (o options) takes(a netip.Addr) bool {
	switch o.proto {
	case "":
		return true
	case "tcp", "rdma":
		return a.Is4()
	}
	return a.Is6()
}

// checkFamily is takes for a spec that has an address.
func (r request) checkFamily() error {
	if r.addr.IsValid() && !r.takes(r.addr) {
		return fault.New(fault.Invalid, "nfs.options: proto=%s does not go with the address %s", r.proto, r.addr)
	}
	return nil
}

// protoFor is the option proto for an address.
func (o options) protoFor(a netip.Addr) string {
	switch {
	case o.proto != "":
		return o.proto
	case a.Is6():
		return "tcp6"
	}
	return "tcp"
}

// firstPort is where the kernel speaks with the server first: 0 when that cannot be tried by TCP. NFS 3 without a port asks rpcbind.
func (r request) firstPort(version string) uint16 {
	port, given := r.said["port"]
	switch {
	case strings.HasPrefix(r.proto, "rdma"):
		return 0
	case given:
		n, _ := net.LookupPort("tcp", port) // checked by known
		return uint16(n)
	case version == "3":
		return 111
	}
	return 2049
}

// reach finds out within limit whether somebody listens at the server, at far less cost than mounting.
func reach(ctx context.Context, at netip.AddrPort, limit time.Duration) error {
	if at.Port() == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	return conn.Close()
}

// local is the address of this node that packets to the server come from, as the server sees it: an NFS 4.0 server calls back there. No
// packet is sent.
func local(server netip.Addr) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(server, 2049)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone(""), nil
}

// unreachable says whether there is no way to the server, or nobody listens there.
func unreachable(err error) bool {
	for _, errno := range []syscall.Errno{syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN,
		syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ENOTCONN, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
