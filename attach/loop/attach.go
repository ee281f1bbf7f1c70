package loop

import (
	"context"
	"os"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// undoWait is how long the undoing of an Attach waits for those who look at every new device, such as udev.
const undoWait = 5 * time.Second

// Attach makes a loop device on the file, and finds its partition.
func (d *Driver) Attach(ctx context.Context, id attach.ID, spec *models.Attach, base attach.Base) (dev attach.Device, err error) {
	if err := d.Validate(spec); err != nil {
		return attach.Device{}, err
	}
	if err := ctx.Err(); err != nil {
		return attach.Device{}, err
	}
	file, readOnly, err := openFile(spec.Loopback, base)
	if err != nil {
		return attach.Device{}, err
	}
	defer file.Close()

	var u undo.Stack
	defer func() {
		if err = u.Unwind(ctx, err); err != nil {
			dev = attach.Device{}
		}
	}()
	found, keep, err := loopdev.Attach(ctx, d.options(id, spec.Loopback, file, readOnly))
	if err != nil {
		return attach.Device{}, err
	}
	u.Push("clear "+found.Path, func(ctx context.Context) error {
		return loopdev.Clear(ctx, found.Path, loopdev.DetachOptions{Name: found.Name, Wait: undoWait})
	})
	// Closed before the undo runs, or the device would be in use by ourselves.
	defer keep.Close()
	dev = device(id, found)
	if found.PartScan {
		if dev, err = takePartition(ctx, dev, file.Name(), keep, partition(spec)); err != nil {
			return attach.Device{}, err
		}
	}
	return dev, ctx.Err()
}

func (d *Driver) options(id attach.ID, l *models.AttachLoopback, file *os.File, readOnly bool) loopdev.Options {
	return loopdev.Options{
		File: file, Name: d.name(id), ReadOnly: readOnly,
		Offset: uint64(value(l.Offset)), SizeLimit: uint64(value(l.SizeLimit)),
		DirectIO: l.DirectIo,
		PartScan: value(l.ReadPartitions) || value(l.Partition) > 0,
	}
}
