package store

import (
	"path"
	"slices"

	"github.com/windlass-hpc/windlass/chunkfs/erofs"
	"github.com/windlass-hpc/windlass/chunkfs/format"
)

// nameFiles says of every damage which files have the damaged chunks.
func (c *check) nameFiles(images []*imageCheck) error {
	for _, m := range c.blobs {
		if m != nil {
			c.report.Damages = append(c.report.Damages, *m)
		}
	}
	for i := range c.report.Damages {
		d := &c.report.Damages[i]
		if len(d.Chunks) == 0 {
			continue
		}
		files := map[string]bool{}
		for _, img := range images {
			if img.metadata && slices.Contains(c.packs[d.digest].images, img) {
				if err := c.filesOf(img, d, files); err != nil {
					return err
				}
			}
		}
		for f := range files {
			d.Files = append(d.Files, format.QuotePath(f))
		}
		slices.Sort(d.Files)
	}
	return nil
}

// maxDepth is how deep directories are looked into: an image comes from anybody.
const maxDepth = 4096

// filesOf adds the files of an image that have chunks of a damage. A hard link is named by every name.
func (c *check) filesOf(i *imageCheck, d *Damage, files map[string]bool) error {
	x, err := c.store.Index(i.manifest)
	if err != nil {
		return err
	}
	img, err := c.store.tree(i.manifest)
	if err != nil {
		return err
	}
	root, err := img.Tree()
	if err != nil {
		return err
	}
	bad := badExtents(x, d)
	var visit func(at string, n *erofs.Node, depth int)
	visit = func(at string, n *erofs.Node, depth int) {
		if depth > maxDepth {
			return
		}
		for _, e := range n.Extents {
			if touches(x, bad, e) {
				files[at] = true
				break
			}
		}
		for _, e := range n.Entries {
			visit(path.Join(at, e.Name), e.Node, depth+1)
		}
	}
	visit("", root, 0)
	return nil
}

// badExtents marks the extents of the index whose chunk is damaged.
func badExtents(x *format.Index, d *Damage) []bool {
	sums := make(map[format.Sum]bool, len(d.Chunks))
	for _, s := range d.Chunks {
		sums[s] = true
	}
	bad := make([]bool, len(x.Extents))
	for i, e := range x.Extents {
		if e.Chunk == format.Zero {
			continue
		}
		chunk := x.Chunks[e.Chunk]
		bad[i] = sums[chunk.Sum] && x.Packs[chunk.Pack].Sum == d.digest.Sum
	}
	return bad
}

// touches says whether a run of a file lies on a damaged extent.
func touches(x *format.Index, bad []bool, e erofs.Extent) bool {
	if e.Size <= 0 || e.Device < 0 || e.Device >= x.DeviceSize {
		return false
	}
	end := min(e.Device+e.Size, x.DeviceSize)
	for i := x.Find(e.Device); i < len(x.Extents) && x.Start(i) < end; i++ {
		if bad[i] {
			return true
		}
	}
	return false
}
