//go:build ceph

package rbd

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// pool is a pool, or a namespace in one, in which images are worked on.
type pool struct {
	*Cluster
	name Name // without image
	io   *rados.IOContext
}

// whole is the image without the snapshot.
func (n Name) whole() Name { n.Snapshot = ""; return n }

// named is another image beside this one.
func (n Name) named(image string) Name { n.Image, n.Snapshot = image, ""; return n }

// open opens the pool and namespace of a name.
func (c *Cluster) open(n Name) (_ *pool, err error) {
	io, err := c.conn.OpenIOContext(n.Pool)
	if errors.Is(err, rados.ErrNotFound) {
		err = fault.New(fault.NotFound, "open pool %s: the cluster has no such pool", n.Pool)
		if there := c.pools(); len(there) > 0 {
			return nil, fault.Hintf(err, "there are: %s; `ceph osd pool create %s` and `rbd pool init %s` make one", strings.Join(there, ", "), n.Pool, n.Pool)
		}
		return nil, err
	}
	if err != nil {
		return nil, failed(err, "open pool %s", n.Pool)
	}
	p := &pool{Cluster: c, name: n.named(""), io: io}
	if n.Namespace == "" {
		return p, nil
	}
	// Who has rights on the namespace alone may not ask.
	if there, err := rbd.NamespaceExists(io, n.Namespace); err == nil && !there {
		io.Destroy()
		err := fault.New(fault.NotFound, "open %v: pool %s has no namespace %s", p.name, n.Pool, n.Namespace)
		return nil, fault.Hintf(err, "make it: rbd namespace create %s/%s", n.Pool, n.Namespace)
	}
	io.SetNamespace(n.Namespace)
	return p, nil
}

func (p *pool) close() { p.io.Destroy() }

// images gives the names of all images.
func (p *pool) images() ([]string, error) {
	names, err := rbd.GetImageNames(p.io)
	return names, failed(err, "list the images of %v", p.name)
}

// exists says whether there is an image of a name. One that was half removed is there.
func (p *pool) exists(image string) (bool, error) {
	img, err := rbd.OpenImageReadOnly(p.io, image, rbd.NoSnapshot)
	if errors.Is(err, rbd.ErrNotFound) {
		names, err := p.images()
		if err != nil {
			return false, err
		}
		for _, n := range names {
			if n == image {
				return true, nil
			}
		}
		return false, nil
	}
	if err != nil {
		return false, failed(err, "open %v", p.name.named(image))
	}
	return true, img.Close()
}

// rename renames an image. It may be open.
func (p *pool) rename(from, to string) error {
	return failed(rbd.GetImage(p.io, from).Rename(to), "rename %v to %s", p.name.named(from), to)
}

// watchers gives the addresses of the clients that have an image open to write, other than this one.
func (p *pool) watchers(img *rbd.Image) ([]string, error) {
	list, err := img.ListWatchers()
	if err != nil {
		return nil, failed(err, "ask who has %v open", p.name.named(img.GetName()))
	}
	addrs := []string{}
	for _, w := range list {
		if uint64(w.Id) != p.conn.GetInstanceID() {
			addrs = append(addrs, w.Addr)
		}
	}
	return addrs, nil
}

// openBy gives the watchers of an image by name; one that is half removed has none.
func (p *pool) openBy(image string) ([]string, error) {
	img, err := rbd.OpenImageReadOnly(p.io, image, rbd.NoSnapshot)
	if errors.Is(err, rbd.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(err, "open %v", p.name.named(image))
	}
	defer img.Close()
	return p.watchers(img)
}

// clones gives the images that were made from a snapshot.
func (p *pool) clones(image, snapshot string) ([]string, error) {
	img, err := rbd.OpenImageReadOnly(p.io, image, snapshot)
	if err != nil {
		return nil, failed(err, "open snapshot %s of %v", snapshot, p.name.named(image))
	}
	defer img.Close()
	list, err := img.ListChildrenAttributes()
	if err != nil {
		return nil, failed(err, "list the clones of snapshot %s of %v", snapshot, p.name.named(image))
	}
	names := []string{}
	for _, c := range list {
		name := Name{Pool: c.PoolName, Namespace: c.PoolNamespace, Image: c.ImageName}.String()
		if c.Trash {
			name = fmt.Sprintf("%s (in the trash, id %s)", name, c.ImageID)
		}
		names = append(names, name)
	}
	return names, nil
}
