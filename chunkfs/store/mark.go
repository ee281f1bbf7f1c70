package store

import (
	"fmt"
	"os"

	"github.com/windlass-hpc/windlass/chunkfs/format"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// mark finds all that is held now. What was marked before is not read again.
func (g *collection) mark() error {
	names, err := g.store.named()
	if err != nil {
		return err
	}
	for _, n := range names {
		err := n.Damage
		if err == nil {
			err = g.markImage(n.Image, lasting)
		}
		if err != nil {
			return fault.Hintf(fmt.Errorf("%s: nothing is removed, because what it needs is not known: %w", n.Name, err),
				"mend it with `windlass image check %s --repair FROM`, or remove it with `windlass image rm`", g.store.dir)
		}
	}
	if err := g.markFormer(); err != nil {
		return err
	}
	return g.markLeases()
}

// markFormer marks the images whose names went within the grace, as far as they can be read: they have no claim to be whole.
func (g *collection) markFormer() error {
	former, err := g.store.digestNames(formerDir)
	if err != nil {
		return err
	}
	for _, d := range former {
		st, err := os.Lstat(g.store.path(formerDir + "/" + d.Algorithm.String() + "-" + d.Sum.String()))
		if err == nil && !g.expired(st.ModTime()) {
			err = g.markImage(d, passing)
		}
		if err != nil && !os.IsNotExist(err) && !unreadable(err) {
			return err
		}
	}
	return nil
}

// markLeases looks at what builders hold. A lease that is not alive any more holds nothing.
func (g *collection) markLeases() error {
	names, err := g.leases()
	if err != nil {
		return err
	}
	g.leased = map[format.Digest]bool{}
	for _, name := range names {
		h, err := g.store.readLease(name)
		if err != nil {
			return fmt.Errorf("read the lease %s: %w", name, err)
		}
		if !h.alive {
			continue
		}
		for _, d := range h.blobs {
			g.leased[d] = true
		}
		for _, d := range h.images {
			if err := g.markImage(d, passing); err != nil && !unreadable(err) {
				return err
			}
		}
	}
	return nil
}

// markImage marks all blobs of an image. Of one that cannot be read, what could be read is marked.
func (g *collection) markImage(image format.Digest, by claim) error {
	if g.images[image] >= by {
		return nil
	}
	if err := g.ctx.Err(); err != nil {
		return err
	}
	mark := func(d format.Digest) { g.live[d] = max(g.live[d], by) }
	mark(image)
	m, err := g.store.Manifest(image)
	if err != nil {
		return err
	}
	mark(m.Metadata.Digest)
	mark(m.Index.Digest)
	x, err := g.store.Index(m)
	if err != nil {
		return err
	}
	for _, p := range x.Packs {
		mark(format.Digest{Algorithm: x.Algorithm, Sum: p.Sum})
	}
	g.images[image] = by
	return nil
}
