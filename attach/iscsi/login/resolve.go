package login

import (
	"context"
	"net"
	"net/netip"
)

// Resolve gives the addresses of a portal, each as a portal: of a name all that it has, in the order in which they are to be tried.
func Resolve(ctx context.Context, p Portal) ([]Portal, error) {
	if _, err := netip.ParseAddr(p.Host); err == nil {
		return []Portal{p}, nil
	}
	found, err := net.DefaultResolver.LookupIPAddr(ctx, p.Host)
	if err != nil {
		return nil, unreachable(ctx, p.Address(), err)
	}
	all := make([]Portal, len(found))
	for i, a := range found {
		all[i] = Portal{Host: a.String(), Port: p.Port, Tag: p.Tag}
	}
	return all, nil
}
