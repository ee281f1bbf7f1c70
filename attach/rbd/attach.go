package rbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/kernellog"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// undoWait is how long the undoing of an Attach waits for those who look at every new device, such as udev.
const undoWait = 5 * time.Second

// Attach maps the image, or joins those who have it mapped in the same way.
//
// When the kernel does not come back from the mapping, the attachment stays held, so that Probe and Detach know of it: the device may
// still appear.
func (d *Driver) Attach(ctx context.Context, id attach.ID, spec *models.Attach, base attach.Base) (dev attach.Device, err error) {
	if err := d.Validate(spec); err != nil {
		return attach.Device{}, err
	}
	if err := ctx.Err(); err != nil {
		return attach.Device{}, err
	}
	r, err := d.request(id, spec, base)
	if err != nil {
		return attach.Device{}, err
	}
	g, err := d.lock(ctx, r.key)
	if err != nil {
		return attach.Device{}, explainLock(err, "map %s", r.holder.name())
	}
	defer g.unlock()
	var u undo.Stack
	defer func() {
		if errors.Is(err, errMayAppear) {
			dev = attach.Device{}
			return
		}
		if err = u.Unwind(ctx, err); err != nil {
			dev = attach.Device{}
		}
	}()
	u.Push("unmap and let go of "+r.holder.name(), func(ctx context.Context) error { return d.takeBack(ctx, g, id, r) })
	if err := g.hold(ctx, id, r.holder); err != nil {
		return attach.Device{}, fmt.Errorf("note that %s is held: %w", r.holder.name(), err)
	}
	m, err := d.share(ctx, g, id, r)
	if err != nil {
		return attach.Device{}, err
	}
	if err := loopdev.MakeNode(ctx, m.path(), m.devnum); err != nil {
		return attach.Device{}, err
	}
	return m.device(id), ctx.Err()
}

// errMayAppear marks the error of a mapping that goes on in a helper that was left behind.
var errMayAppear = errors.New("the device may still appear")

// share gives the device of the key, which it maps when there is none.
func (d *Driver) share(ctx context.Context, g *group, id attach.ID, r *request) (mapped, error) {
	m, err := d.only(r)
	if err != nil || m.devnum != 0 {
		return m, err
	}
	if err := d.mapNew(ctx, g, mark{key: r.key, instance: d.cfg.Instance, id: id}, r); err != nil {
		return mapped{}, err
	}
	m, err = d.only(r)
	if err == nil && m.devnum == 0 {
		err = fmt.Errorf("map %s: the kernel took the order, but there is no device", r.holder.name())
	}
	if err == nil {
		err = d.checkCluster(m, r)
	}
	return m, err
}

// checkCluster: the kernel takes the option fsid, and does not look whether it is that of the cluster.
func (d *Driver) checkCluster(m mapped, r *request) error {
	if r.fsid == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(d.sys, "bus/rbd/devices", strconv.FormatInt(m.number, 10), "cluster_fsid"))
	if err != nil {
		return fmt.Errorf("map %s: find out which cluster it is in: %w", r.holder.name(), err)
	}
	if is := strings.TrimSpace(string(b)); is != r.fsid {
		err := fault.New(fault.Invalid, "map %s: rbd.options.fsid is %s, but the monitors are of the cluster %s", r.holder.name(), r.fsid, is)
		return fault.Hintf(err, "check the monitors, or the fsid with `ceph fsid`")
	}
	return nil
}

// only gives the device of the key; devnum 0 when there is none.
func (d *Driver) only(r *request) (mapped, error) {
	all, err := d.mappedAs(r.key)
	if err != nil || len(all) == 0 {
		return mapped{}, err
	}
	if len(all) > 1 || all[0].devnum == 0 {
		err := fault.New(fault.Busy, "map %s: %s is still being taken down", r.holder.name(), all[0].path())
		return mapped{}, fault.Hintf(err, "try again in a moment")
	}
	return all[0], nil
}

// mapNew has the kernel map the image.
func (d *Driver) mapNew(ctx context.Context, g *group, m mark, r *request) error {
	add, err := d.control("add")
	if err != nil {
		return err
	}
	addrs, err := resolve(ctx, r.monitors, d.resolve)
	if err != nil {
		return err
	}
	line, err := r.line(addrs, m)
	if err != nil {
		return err
	}
	log := kernellog.Open()
	defer log.Close()
	err = step.Do(ctx, "rbd.map", func(ctx context.Context) error { return d.order(ctx, add, line, g.file) })
	var stuck *helper.Stuck
	switch {
	case errors.As(err, &stuck):
		err = fault.New(fault.Timeout, "stuck: map %s: %w; %w", r.holder.name(), err, errMayAppear)
		return fault.Hintf(err, "the kernel maps one image at a time, and waits for a cluster that does not answer until mount_timeout has passed")
	case err == nil:
		return nil
	}
	return r.explain(ctx, err, addrs, log.Lines(ours))
}

// takeBack undoes a mapping, unless others hold the device as well. A device that stays mapped stays held, so that Detach finds it.
func (d *Driver) takeBack(ctx context.Context, g *group, id attach.ID, r *request) error {
	others, err := g.others(id)
	if err != nil {
		return err
	}
	if len(others) == 0 {
		if err := d.unmapAll(ctx, g, r.key, removal{wait: undoWait, holder: r.holder}); err != nil {
			return err
		}
	}
	return g.release(ctx, id)
}
