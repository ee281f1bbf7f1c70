//go:build ceph

package rbd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// RemoveOptions say what may be removed.
type RemoveOptions struct {
	Force bool // also protected snapshots, which nodes may read
	Evict bool // cut off who has the image open to write: all they do in the cluster fails from then on
}

// Remove removes an image with its snapshots, or one snapshot of it. What has clones is never removed.
func (c *Cluster) Remove(ctx context.Context, n Name, o RemoveOptions) error {
	p, err := c.open(n)
	if err != nil {
		return err
	}
	defer p.close()
	if there, err := p.exists(n.Image); err != nil {
		return err
	} else if !there {
		return fault.Hintf(fault.New(fault.NotFound, "remove %v: there is no such image", n), "`windlass-ceph list %v` shows what is there", p.name)
	}
	info, err := p.info(n.Image)
	if err != nil && !errors.Is(err, rbd.ErrNotFound) {
		// What is not known of it may be what forbids to remove it.
		return fmt.Errorf("remove %v: see what needs it: %w", n, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if n.Snapshot != "" {
		return p.removeSnapshot(n, info, o)
	}
	return p.removeImage(ctx, n, info, o)
}

func (p *pool) removeSnapshot(n Name, info *Info, o RemoveOptions) error {
	for _, s := range info.Snapshots {
		if s.Name != n.Snapshot {
			continue
		}
		if err := mayGo(n, s, o); err != nil {
			return err
		}
		if len(info.Watchers) > 0 && !o.Force {
			return inUse(n, info.Watchers, "detach it there first, or say --force when they do not need the snapshot")
		}
		img, err := rbd.OpenImage(p.io, n.Image, rbd.NoSnapshot)
		if err != nil {
			return failed(err, "open %v", n.whole())
		}
		return errors.Join(p.dropSnapshot(img, s.Name), failed(img.Close(), "close %v", n.whole()))
	}
	var there []string
	for _, s := range info.Snapshots {
		there = append(there, s.Name)
	}
	err := fault.New(fault.NotFound, "remove %v: the image has no such snapshot", n)
	if len(there) > 0 {
		err = fault.Hintf(err, "it has: %s", strings.Join(there, ", "))
	}
	return err
}

// mayGo says whether a snapshot may be removed.
func mayGo(n Name, s Snapshot, o RemoveOptions) error {
	if len(s.Clones) > 0 {
		err := fault.New(fault.Busy, "remove %v: snapshot %s has clones, which need it: %s", n, s.Name, strings.Join(s.Clones, ", "))
		return fault.Hintf(err, "remove them, or make them independent by `rbd flatten`")
	}
	if s.Protected && !o.Force {
		err := fault.New(fault.Busy, "remove %v: snapshot %s is protected", n, s.Name)
		return fault.Hintf(err, "nodes may have it mapped, which the cluster does not know; once no node does, say --force")
	}
	return nil
}

func inUse(n Name, addrs []string, hint string) error {
	return fault.Hintf(fault.New(fault.Busy, "remove %v: it is open to write, by %s", n, strings.Join(addrs, ", ")), "%s", hint)
}

// removeImage renames the image before anything of it goes: what is half removed must not look whole.
func (p *pool) removeImage(ctx context.Context, n Name, info *Info, o RemoveOptions) error {
	for _, s := range info.Snapshots {
		if err := mayGo(n, s, o); err != nil {
			return err
		}
	}
	if len(info.Watchers) > 0 {
		if !o.Evict {
			return inUse(n, info.Watchers, "detach it there first; who has died is forgotten after half a minute; --evict cuts off whoever has it open")
		}
		if err := p.evict(ctx, n, info.Watchers); err != nil {
			return err
		}
	}
	image := n.Image
	if _, mark := marked(image); mark != goneMark {
		to := image + goneMark + random()
		// Without a header there is nothing to rename, and nothing that looks whole.
		if err := p.rename(image, to); err == nil {
			image = to
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	if err := p.discard(image); err != nil {
		return fault.Hintf(err, "what is left of it is %v now; remove that", p.name.named(image))
	}
	return nil
}

// discard removes an image with all its snapshots, whatever state it is in. One that has gone meanwhile is removed.
func (p *pool) discard(image string) error {
	name := p.name.named(image)
	img, err := rbd.OpenImage(p.io, image, rbd.NoSnapshot)
	if err != nil && !errors.Is(err, rbd.ErrNotFound) {
		return failed(err, "open %v", name)
	}
	if err == nil {
		snapshots, err := img.GetSnapshotNames()
		err = failed(err, "list the snapshots of %v", name)
		for _, s := range snapshots {
			if err == nil {
				err = p.dropSnapshot(img, s.Name)
			}
		}
		if err = errors.Join(err, failed(img.Close(), "close %v", name)); err != nil {
			return err
		}
	}
	if err := rbd.RemoveImage(p.io, image); !errors.Is(err, rbd.ErrNotFound) { // that somebody else has removed is removed
		return failed(err, "remove %v", name)
	}
	return nil
}

func (p *pool) dropSnapshot(img *rbd.Image, name string) error {
	what := p.name.named(img.GetName()).String() + "@" + name
	s := img.GetSnapshot(name)
	protected, err := s.IsProtected()
	if err != nil {
		return failed(err, "look at %s", what)
	}
	if protected {
		if err := s.Unprotect(); err != nil {
			return failed(err, "unprotect %s", what)
		}
	}
	return failed(s.Remove(), "remove %s", what)
}

// evictTimeout is how long the cluster may take to forget those who were cut off.
const evictTimeout = 20 * time.Second

// evict cuts clients off and waits until they are forgotten as watchers.
func (p *pool) evict(ctx context.Context, n Name, addrs []string) error {
	for _, a := range addrs {
		order := map[string]any{"prefix": "osd blocklist", "blocklistop": "add", "addr": a, "expire": json.Number("3600.0")} // it wants a point
		if err := p.order(order, nil); err != nil {
			return fmt.Errorf("cut off %s: %w", a, err)
		}
	}
	if err := p.conn.WaitForLatestOSDMap(); err != nil {
		return failed(err, "wait until %s are cut off", strings.Join(addrs, ", "))
	}
	ctx, cancel := context.WithTimeout(ctx, evictTimeout)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond) // there is nothing that tells of it
	defer tick.Stop()
	for {
		left, err := p.openBy(n.Image)
		if err != nil || len(left) == 0 {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return inUse(n, left, "they were cut off and are still known as watchers; try again in half a minute")
		}
	}
}
