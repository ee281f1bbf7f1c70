package nfs

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/step"
)

// reachTimeout bounds connecting to an address when there is another to be tried.
const reachTimeout = 3 * time.Second

// create makes a detached mount: the addresses are tried in turn, within one time for all, and at each the versions. It tells which address it
// was.
func (d *Driver) create(ctx context.Context, r request) (*os.File, netip.Addr, error) {
	limited, cancel := context.WithTimeout(ctx, d.cfg.MountTimeout)
	defer cancel()
	addrs, err := d.addresses(limited, r)
	if err != nil {
		return nil, netip.Addr{}, orEnded(ctx, err)
	}
	var failed []error
	for i, addr := range addrs {
		mnt, err := d.createFrom(limited, r, addr, len(addrs)-i)
		if err == nil {
			return mnt, addr, nil
		}
		if ctx.Err() != nil {
			return nil, netip.Addr{}, orEnded(ctx, err)
		}
		failed = append(failed, err)
		if hopeless(err) {
			break
		}
	}
	return nil, netip.Addr{}, together(failed)
}

// orEnded gives the error of the caller's context when that has ended.
func orEnded(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, ctx.Err()) {
		return err
	}
	return fault.New(fault.KindOf(ctx.Err()), "%w; %w", err, ctx.Err())
}

// createFrom tries one address, of so many that are left. It takes its share of the time that is left.
func (d *Driver) createFrom(ctx context.Context, r request, addr netip.Addr, left int) (*os.File, error) {
	began := time.Now()
	deadline, _ := ctx.Deadline()
	share := time.Until(deadline) / time.Duration(left)
	ctx, cancel := context.WithTimeout(ctx, share)
	defer cancel()
	connecting := share
	if left > 1 {
		connecting = min(share, reachTimeout)
	}
	a := attempt{r: r, addr: addr, version: r.versions[0]}
	if err := reach(ctx, netip.AddrPortFrom(addr, r.firstPort(a.version)), connecting); err != nil {
		return nil, a.explain(err, time.Since(began))
	}
	var client netip.Addr
	if a.version != "3" {
		var err error
		if client, err = local(addr); err != nil {
			return nil, a.explain(err, time.Since(began))
		}
	}
	var mnt *os.File
	var err error
	for _, a.version = range r.versions {
		fsType, opts := a.options(client)
		err = step.Do(ctx, "nfs.create", func(ctx context.Context) error {
			var err error
			mnt, err = d.helper.Create(ctx, fsType, opts, r.mountAttrs())
			return err
		})
		if !errors.Is(err, unix.EPROTONOSUPPORT) {
			break
		}
	}
	if err != nil && mnt != nil { // a step may fail after its work is done
		d.drop(ctx, mnt)
	}
	if err != nil {
		return nil, a.explain(err, time.Since(began))
	}
	return mnt, nil
}

// drop gives up a mount that is nowhere.
func (d *Driver) drop(ctx context.Context, mnt *os.File) {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_ = d.helper.Close(after, mnt) // it is undone then or later
}

// patience bounds what is done after a context has ended.
const patience = 2 * time.Second

// attempt is one address and one version.
type attempt struct {
	r       request
	addr    netip.Addr
	version string
}

// options are what the kernel is told; client is the address of this node, for NFS 4.
func (a attempt) options(client netip.Addr) (fsType string, opts []fsmount.Option) {
	fsType = "nfs4"
	opts = []fsmount.Option{{Key: "source", Value: a.r.source()}, {Key: "vers", Value: a.version}, {Key: "proto", Value: a.r.protoFor(a.addr)},
		{Key: "addr", Value: a.addr.String()}}
	if a.version == "3" {
		fsType = "nfs"
	} else {
		opts = append(opts, fsmount.Option{Key: "clientaddr", Value: client.String()})
	}
	return fsType, append(opts, a.r.all(a.version)...)
}
