package chunk

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/mount"
)

// mountErofs mounts metadata and data device, detached.
func (d *Driver) mountErofs(ctx context.Context, id mount.ID, opened control.Opened, k kernel) (*os.File, error) {
	if k.backing == fromFile {
		mnt, err := mountFiles(ctx, opened, k)
		// A file that the kernel does not mount from, such as one of a tmpfs, goes behind a loop device all the same.
		if !errors.Is(err, unix.ENOTBLK) {
			return mnt, explain(err, opened)
		}
	}
	mnt, err := d.mountLoops(ctx, id, opened)
	return mnt, explain(err, opened)
}

func mountFiles(ctx context.Context, opened control.Opened, k kernel) (*os.File, error) {
	paths := []string{opened.Metadata, opened.Device}
	for i, path := range paths {
		if len(path) <= fsmount.MaxValue {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close() // the kernel opens it itself
		paths[i] = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	}
	return createErofs(ctx, paths[0], paths[1], k.directIO)
}

// mountLoops puts both files behind loop devices, which go with the mount.
func (d *Driver) mountLoops(ctx context.Context, id mount.ID, opened control.Opened) (*os.File, error) {
	var devices []string
	for _, part := range []struct{ name, path string }{{"meta", opened.Metadata}, {"data", opened.Device}} {
		dev, f, err := attachLoop(ctx, part.path, fmt.Sprintf("%s/%d/%s", d.cfg.Instance, id, part.name))
		if err != nil {
			return nil, err
		}
		defer f.Close() // until the mount holds it
		devices = append(devices, dev.Path)
	}
	return createErofs(ctx, devices[0], devices[1], false)
}

// blockSize is that of EROFS, in which it reads. A loop device with smaller ones cannot bypass the page cache of a file on a disk with
// sectors of 4096 bytes.
const blockSize = 4096

// attachLoop makes a read-only device of a file. It bypasses the file's own page cache where that can be done: what is read is kept in
// that of the mount.
func attachLoop(ctx context.Context, path, name string) (loopdev.Device, *os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return loopdev.Device{}, nil, err
	}
	defer file.Close()
	o := loopdev.Options{File: file, Name: name, ReadOnly: true, Autoclear: true, DirectIO: true, BlockSize: blockSize}
	dev, f, err := loopdev.Attach(ctx, o)
	if fault.Is(err, fault.Unsupported) || errors.Is(err, unix.EINVAL) {
		o.DirectIO = false
		dev, f, err = loopdev.Attach(ctx, o)
	}
	return dev, f, err
}

func createErofs(ctx context.Context, metadata, data string, directIO bool) (*os.File, error) {
	options := []fsmount.Option{source(metadata), {Key: "device", Value: data}, {Key: "ro", Flag: true}}
	if directIO { // else the data is kept twice, and a cold read takes more than twice as long
		options = append(options, fsmount.Option{Key: "directio", Flag: true})
	}
	return fsmount.Create(ctx, "erofs", options, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
}

// explain says which image the kernel did not want. nil stays nil.
func explain(err error, opened control.Opened) error {
	switch {
	case err == nil:
		return nil
	case !fault.Is(err, fault.Invalid):
		return wrap(err, "mount the image %s", opened.Image)
	}
	// No word of the caller's is among the options, so it is the image that is wrong.
	return fault.New(fault.Corrupt, "mount the image %s: %w", opened.Image, err)
}
