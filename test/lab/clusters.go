package lab

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/windlass-hpc/windlass/test/lab/control"
	"github.com/windlass-hpc/windlass/test/lab/netns"
	"github.com/windlass-hpc/windlass/test/lab/servers"
)

// threeAddr is where the cluster with three monitors listens.
const threeAddr = "10.99.0.3"

// clusters are those of Ceph: the first, whose name is empty, runs from the beginning, the others once they are asked for.
type clusters struct {
	mu   sync.Mutex // while one starts
	runs map[string]*servers.Ceph
}

// get gives a cluster and starts it when it does not run yet.
func (c *clusters) get(ctx context.Context, name string) (*servers.Ceph, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ceph := c.runs[name]; ceph != nil {
		return ceph, nil
	}
	cfg, ok := map[string]servers.CephConfig{
		"":            {Dir: dir() + "/ceph", Addr: netip.MustParseAddr(netns.IPv4), Durable: true},
		control.Six:   {Dir: dir() + "/ceph6", Addr: netip.MustParseAddr(netns.IPv6)},
		control.Three: {Dir: dir() + "/ceph3", Addr: netip.MustParseAddr(threeAddr), Mons: 3},
	}[name]
	if !ok {
		return nil, fmt.Errorf("the lab has no cluster %q", name)
	}
	ceph, err := servers.StartCeph(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if c.runs == nil {
		c.runs = map[string]*servers.Ceph{}
	}
	c.runs[name] = ceph
	return ceph, nil
}
