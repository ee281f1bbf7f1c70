//go:build ceph

package rbd

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sync/errgroup"
)

// lookers is how many images are looked at at the same time.
const lookers = 8

// List gives what is in a pool or namespace, by name. An image that cannot be looked at is there, with the reason.
func (c *Cluster) List(ctx context.Context, in Name) ([]Info, error) {
	p, err := c.open(in)
	if err != nil {
		return nil, err
	}
	defer p.close()
	names, err := p.images()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	infos := make([]*Info, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookers)
	for i, name := range names {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			infos[i], _ = p.info(name) // the reason is in it
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	list := []Info{}
	for _, i := range infos {
		list = append(list, *i)
	}
	slices.SortStableFunc(list, func(a, b Info) int { return strings.Compare(a.Name.Image, b.Name.Image) })
	return list, nil
}

// info tells all that can be found out of one image; err is why that is not all, rbd.ErrNotFound when it is half made or half removed.
func (p *pool) info(image string) (_ *Info, err error) {
	i := &Info{Name: p.name.named(image), Features: []string{}, Snapshots: []Snapshot{}, Watchers: []string{}}
	if err = p.look(image, i); errors.Is(err, rbd.ErrNotFound) {
		i.Error = "it is half made or half removed"
	} else if err != nil {
		i.Error = err.Error()
	}
	i.decide()
	return i, err
}

func (p *pool) look(image string, i *Info) error {
	img, err := rbd.OpenImageReadOnly(p.io, image, rbd.NoSnapshot)
	if err != nil {
		if errors.Is(err, rbd.ErrNotFound) {
			return err
		}
		return failed(err, "open %v", i.Name)
	}
	defer img.Close()
	st, err := img.Stat()
	if err != nil {
		return failed(err, "ask for the size of %v", i.Name)
	}
	features, err := img.GetFeatures()
	if err != nil {
		return failed(err, "ask for the features of %v", i.Name)
	}
	set := rbd.FeatureSet(features)
	i.Size, i.ObjectSize, i.Features = st.Size, st.Obj_size, set.Names()
	slices.Sort(i.Features)
	if i.Watchers, err = p.watchers(img); err != nil {
		return err
	}
	kept, err := img.ListMetadata()
	if err != nil {
		return failed(err, "read what is kept with %v", i.Name)
	}
	i.fill(kept)
	i.Snapshots, err = p.snapshots(img)
	return err
}

func (p *pool) snapshots(img *rbd.Image) ([]Snapshot, error) {
	name := p.name.named(img.GetName())
	list, err := img.GetSnapshotNames()
	if err != nil {
		return nil, failed(err, "list the snapshots of %v", name)
	}
	snapshots := []Snapshot{}
	for _, s := range list {
		one := Snapshot{Name: s.Name, Size: s.Size}
		if one.Protected, err = img.GetSnapshot(s.Name).IsProtected(); err != nil {
			return nil, failed(err, "look at snapshot %s of %v", s.Name, name)
		}
		if one.Clones, err = p.clones(img.GetName(), s.Name); err != nil {
			return nil, err
		}
		snapshots = append(snapshots, one)
	}
	return snapshots, nil
}
