// Package nfs is the mount driver of kind "nfs": a directory of an NFS server, by NFS 3, 4.0, 4.1 or 4.2.
//
// A server may fall silent at any time, and whoever touches one of its file systems then waits. So the daemon never does: mounting,
// unmounting and asking whether the server answers happen in helpers (internal/helper), and what there is to know of a mount is read from
// mountinfo, which asks no server.
//
// It keeps in memory what it has learnt of servers, and nothing that cannot be learnt again.
package nfs

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Config is what a Driver needs.
type Config struct {
	Helper *helper.Runner
	// MountTimeout bounds mounting, names and all addresses of the server included; 0: 15 s.
	MountTimeout time.Duration
}

// Driver mounts exports. Close ends what it does in the background.
type Driver struct {
	cfg    Config
	helper *helper.Runner
	watch  *watch
	lookup func(ctx context.Context, name string) ([]netip.Addr, error)
}

// New makes a driver.
func New(cfg Config) *Driver {
	if cfg.MountTimeout == 0 {
		cfg.MountTimeout = 15 * time.Second
	}
	return &Driver{cfg: cfg, helper: cfg.Helper, watch: newWatch(cfg.Helper), lookup: lookup}
}

// Close ends what goes on in the background. Mounts stay.
func (d *Driver) Close() error {
	d.watch.close()
	return nil
}

// Kind is the word for it on the wire.
func (*Driver) Kind() string { return string(models.MountKindNfs) }

// Validate checks the part `nfs` of the spec.
func (*Driver) Validate(spec *models.Mount) error {
	_, err := parse(spec)
	return err
}

// Mount mounts the export at target.Dir.
func (d *Driver) Mount(ctx context.Context, id mount.ID, spec *models.Mount, _ []mount.Layer, target mount.Target) (mount.Active, error) {
	r, err := parse(spec)
	if err != nil {
		return mount.Active{}, err
	}
	if err := target.CheckUnused(); err != nil {
		return mount.Active{}, err
	}
	mnt, addr, err := d.create(ctx, r)
	if err != nil {
		return mount.Active{}, err
	}
	mountID, err := fsmount.ID(mnt)
	if err == nil {
		err = checkDirectory(mnt, r)
	}
	if err == nil {
		err = fsmount.Move(ctx, mnt, target.Dir)
	}
	if err != nil {
		// The file system shuts down now, which asks the server once more.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if cerr := d.helper.Close(after, mnt); cerr != nil {
			err = fault.New(fault.KindOf(err), "%w; %w", err, cerr)
		}
		return mount.Active{}, err
	}
	mnt.Close() // it is not the last to hold the mount
	d.watch.add(id, target.Dir, addr.String())
	return mount.Active{ID: id, Target: target, MountID: mountID, ReadOnly: r.readOnly}, nil
}

// checkDirectory refuses a file, which NFS 4 mounts like a directory. It asks the kernel for what the server said when it was mounted.
func checkDirectory(mnt *os.File, r request) error {
	var st unix.Statx_t
	err := unix.Statx(int(mnt.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st)
	if err != nil {
		return fmt.Errorf("look at %s: %w", r.source(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fault.New(fault.Invalid, "mount %s: it is no directory", r.source())
	}
	return nil
}

// Probe looks at mountinfo, which asks no server.
func (d *Driver) Probe(_ context.Context, id mount.ID, _ *models.Mount, target mount.Target) (mount.Active, mount.State, error) {
	a := mount.Active{ID: id, Target: target}
	i, err := at(target.Dir)
	switch {
	case err != nil || i == nil:
		return a, mount.Gone, err
	case !isNFS(i):
		return a, mount.Partial, nil // something else is mounted there
	}
	a.MountID, a.ReadOnly = uint64(i.ID), fsmount.ReadOnly(i)
	d.watch.add(id, target.Dir, addressOf(i))
	return a, mount.Ready, nil
}
