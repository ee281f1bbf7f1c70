// Package loop is the attach driver of kind loopback: a loop device on a file.
//
// A device is named INSTANCE/ID in the kernel (lo_file_name). The driver keeps nothing: Probe, Detach and List ask the kernel by that
// name, so it does not matter who attached the device, or when he was killed. The driver reads no file system.
package loop

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/blockdev"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// forceWait is how long a forced Detach waits. It is not 0: a look at the device, as List takes, is not to count as a use.
const forceWait = 100 * time.Millisecond

// Driver is an attach.Driver.
type Driver struct{ instance string }

var _ attach.Driver = (*Driver)(nil)

// New makes a driver whose devices carry the name of this instance of the daemon (rundir.Dir.Instance).
func New(instance string) *Driver { return &Driver{instance} }

// Kind is the word for it on the wire.
func (*Driver) Kind() string { return string(models.AttachKindLoopback) }

func (d *Driver) name(id attach.ID) string { return fmt.Sprintf("%s/%d", d.instance, id) }

// id reads the ID from a device's name; false when the device is not ours.
func (d *Driver) id(name string) (attach.ID, bool) {
	rest, ok := strings.CutPrefix(name, d.instance+"/")
	n, err := strconv.ParseInt(rest, 10, 64)
	if !ok || err != nil || n <= 0 || strconv.FormatInt(n, 10) != rest {
		return 0, false
	}
	return attach.ID(n), true
}

// Detach clears every device with the ID's name, wherever d says it is.
func (d *Driver) Detach(ctx context.Context, dev attach.Device, force bool) error {
	all, err := loopdev.FindByName(ctx, d.name(dev.ID))
	if err != nil {
		return fmt.Errorf("detach loopback %d: %w", dev.ID, err)
	}
	o := loopdev.DetachOptions{Name: d.name(dev.ID), Wait: loopdev.DefaultWait}
	if force {
		o.Wait = forceWait
	}
	for _, found := range all {
		if err := loopdev.Clear(ctx, found.Path, o); err != nil {
			return fmt.Errorf("detach loopback %d: %w", dev.ID, err)
		}
	}
	return nil
}

// Probe finds the ID's device. It is Partial when its partition is missing, or when there is more than one.
func (d *Driver) Probe(ctx context.Context, id attach.ID, spec *models.Attach) (attach.Device, attach.State, error) {
	all, err := loopdev.FindByName(ctx, d.name(id))
	if err != nil {
		return attach.Device{}, attach.Gone, fmt.Errorf("probe loopback %d: %w", id, err)
	}
	if len(all) == 0 {
		return attach.Device{}, attach.Gone, nil
	}
	dev := device(id, all[0])
	if len(all) > 1 {
		return dev, attach.Partial, nil
	}
	n := partition(spec)
	if n == 0 {
		return dev, attach.Ready, nil
	}
	part, ok, err := blockdev.Partition(dev.DevNum, n)
	if err != nil {
		return dev, attach.Partial, fmt.Errorf("probe loopback %d: %w", id, err)
	}
	if !ok {
		return dev, attach.Partial, nil
	}
	return partOf(dev, part), attach.Ready, nil
}

// List gives the devices of this instance. Of one attached for a partition it gives the whole.
func (d *Driver) List(ctx context.Context) ([]attach.Device, error) {
	all, err := loopdev.List(ctx)
	if err != nil {
		return nil, err
	}
	var ours []attach.Device
	for _, dev := range all {
		if id, ok := d.id(dev.Name); ok {
			ours = append(ours, device(id, dev))
		}
	}
	return ours, nil
}

func device(id attach.ID, dev loopdev.Device) attach.Device {
	return attach.Device{ID: id, Path: dev.Path, DevNum: dev.DevNum, ReadOnly: dev.ReadOnly, Number: int64(dev.Number)}
}

func partOf(whole attach.Device, part blockdev.Info) attach.Device {
	dev := whole
	dev.Path, dev.Parent, dev.DevNum = part.Path(), whole.Path, part.DevNum
	return dev
}
