// Package rbd is the attach driver of kind rbd: an image of a Ceph cluster, mapped by the kernel through sysfs.
//
// Who asks for the same image in the same way shares one device; who uses it stands in files, one for each attachment, below the run
// directory:
//
//	DIR/KEY/lock    locked (flock) by whoever maps or unmaps the device, a helper that was left behind at it included
//	DIR/KEY/going   locked while the device is taken away by force, by a helper that was left behind at it included
//	DIR/KEY/ID      an attachment that uses the device (holder); written before the device is mapped, removed after it is unmapped
//
// KEY says what is shared. The kernel keeps it with the device, together with the name of this instance of the daemon (mark), so that
// a device is found without memory. The last holder unmaps. With the option noshare a KEY is of one attachment alone.
//
// The driver reads no file system and never shows the line with which a device was mapped, since that holds the secret.
package rbd

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// DefaultMountTimeout is how long the kernel tries to reach a monitor when nobody says otherwise.
const DefaultMountTimeout = 30 * time.Second

// Config is what a driver needs to know.
type Config struct {
	Instance    string // of the daemon (rundir.Dir.Instance)
	Dir         string // for the holders; it is made when it is first wanted, and must go with the boot
	Helper      *helper.Runner
	Credentials credential.Store
	// MountTimeout is how long a cluster may take to answer at first; 0 is DefaultMountTimeout.
	MountTimeout time.Duration
	// RequestTimeout is after which a read or write that is not answered fails; 0 is never.
	RequestTimeout time.Duration
}

// Driver is an attach.Driver, attach.Observer and attach.Aborter.
type Driver struct {
	cfg     Config
	sys     string // where sysfs is
	write   func(ctx context.Context, path string, data []byte, keep ...*os.File) error
	resolve lookup
	locks   locks
	fares   fares
}

var (
	_ attach.Driver   = (*Driver)(nil)
	_ attach.Observer = (*Driver)(nil)
	_ attach.Aborter  = (*Driver)(nil)
)

// New makes a driver.
func New(cfg Config) *Driver {
	if cfg.MountTimeout == 0 {
		cfg.MountTimeout = DefaultMountTimeout
	}
	return &Driver{
		cfg: cfg, sys: "/sys", resolve: net.DefaultResolver.LookupNetIP,
		locks: locks{held: map[string]*waiting{}}, fares: fares{of: map[attach.ID]fare{}, samples: map[int64]sample{}},
		write: func(ctx context.Context, path string, data []byte, keep ...*os.File) error {
			var opts []helper.Option
			for _, f := range keep {
				opts = append(opts, helper.Keep(f))
			}
			return cfg.Helper.Write(ctx, path, data, opts...)
		},
	}
}

// Kind is the word for it on the wire.
func (*Driver) Kind() string { return string(models.AttachKindRbd) }

// Probe finds the ID's device. It is Partial when the ID holds a device that is not there, as when the daemon was killed before it was
// mapped. Timeout: a helper that was left behind may still map or unmap it.
func (d *Driver) Probe(ctx context.Context, id attach.ID, _ *models.Attach) (attach.Device, attach.State, error) {
	dev, state, err := d.find(ctx, id)
	if err != nil {
		return attach.Device{}, attach.Partial, explainLock(err, "probe rbd %d", id)
	}
	return dev, state, nil
}

func (d *Driver) find(ctx context.Context, id attach.ID) (attach.Device, attach.State, error) {
	keys, err := d.keysOf(id)
	if err != nil || len(keys) == 0 {
		return attach.Device{}, attach.Gone, err
	}
	g, err := d.lock(ctx, keys[0])
	if err != nil {
		return attach.Device{}, attach.Gone, err
	}
	defer g.unlock()
	all, err := d.mappedAs(keys[0])
	switch {
	case err != nil:
		return attach.Device{}, attach.Gone, err
	case len(all) == 0:
		return attach.Device{ID: id}, attach.Partial, nil
	}
	dev := all[0].device(id)
	if len(keys) > 1 || len(all) > 1 || all[0].devnum == 0 || !g.has(id) {
		return dev, attach.Partial, nil
	}
	return dev, attach.Ready, nil
}

// List gives the devices of this instance, one for each attachment that holds one; of a device that nobody holds, that which had it mapped.
func (d *Driver) List(context.Context) ([]attach.Device, error) {
	all, err := d.mapped()
	if err != nil {
		return nil, err
	}
	var devs []attach.Device
	for _, m := range all {
		ids, err := holdersIn(d.dir(m.mark.key))
		if err != nil {
			return nil, fmt.Errorf("list rbd devices: %w", err)
		}
		if len(ids) == 0 {
			ids = []attach.ID{m.mark.id}
		}
		for _, id := range ids {
			devs = append(devs, m.device(id))
		}
	}
	return devs, nil
}
