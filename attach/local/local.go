// Package local is the attach driver of kind local: a block device that the node has, or a partition of it.
//
// It owns nothing and changes nothing: Attach finds the device and says what it is, Detach does nothing. The driver opens no device.
package local

import (
	"context"
	"fmt"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/safepath"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// maxPartition is the highest number of a partition that the contract allows.
const maxPartition = 256

// Driver is an attach.Driver.
type Driver struct{}

var _ attach.Driver = Driver{}

// New makes a driver.
func New() Driver { return Driver{} }

// Kind is the word for it on the wire.
func (Driver) Kind() string { return string(models.AttachKindLocal) }

// Validate checks the spec alone.
func (Driver) Validate(spec *models.Attach) error {
	switch {
	case spec == nil || spec.Local == nil:
		return fault.New(fault.Invalid, "local is missing: kind local needs it")
	case spec.Local.Path == nil || *spec.Local.Path == "":
		return fault.New(fault.Invalid, "local.path is missing: name the block device")
	case partition(spec) < 0 || partition(spec) > maxPartition:
		return fault.New(fault.Invalid, "local.partition %d is not between 0 and %d", partition(spec), maxPartition)
	}
	return safepath.CheckAbsolute("local.path", *spec.Local.Path)
}

// Attach finds the device. In Device.Number it gives the disk's sequence number (0 before Linux 5.15): together with DevNum it tells
// the disk that was attached from another one that has its name and number now.
func (d Driver) Attach(ctx context.Context, id attach.ID, spec *models.Attach, _ attach.Base) (attach.Device, error) {
	if err := d.Validate(spec); err != nil {
		return attach.Device{}, err
	}
	if err := ctx.Err(); err != nil {
		return attach.Device{}, err
	}
	return find(id, spec)
}

// Detach does nothing: the device is the node's.
func (Driver) Detach(context.Context, attach.Device, bool) error { return nil }

// Probe is Ready when the spec names a device, which it gives; it is for the caller to compare DevNum and Number with what Attach gave.
func (d Driver) Probe(_ context.Context, id attach.ID, spec *models.Attach) (attach.Device, attach.State, error) {
	if err := d.Validate(spec); err != nil {
		return attach.Device{}, attach.Gone, err
	}
	dev, err := find(id, spec)
	switch {
	case err == nil:
		return dev, attach.Ready, nil
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid):
		// No device, or something else under its name: either way it is not there any more.
		return attach.Device{}, attach.Gone, nil
	}
	return attach.Device{}, attach.Gone, fmt.Errorf("probe local %d: %w", id, err)
}

// List is always empty: the kernel has nothing of ours.
func (Driver) List(context.Context) ([]attach.Device, error) { return nil, nil }

func partition(spec *models.Attach) int64 {
	if spec.Local.Partition == nil {
		return 0
	}
	return *spec.Local.Partition
}
