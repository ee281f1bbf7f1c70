package uri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
)

// mountImage fetches an image into memory and mounts it, detached.
func (d *Driver) mountImage(ctx context.Context, id mount.ID, p plan, f *file) (*os.File, error) {
	image, err := d.download(ctx, id, p, f)
	if err != nil {
		return nil, err
	}
	defer image.Close() // the loop device holds it
	_, dev, err := attachLoop(ctx, image, d.loopName(id))
	if err != nil {
		return nil, err
	}
	defer dev.Close() // the mount holds it, and with the mount it goes
	mnt, err := fsmount.Create(ctx, f.format.fsType, []fsmount.Option{{Key: "source", Value: dev.Name()}, {Key: "ro", Flag: true}},
		unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return nil, fmt.Errorf("mount what was read from %s: %w", p.src, err)
	}
	return mnt, nil
}

func attachLoop(ctx context.Context, image *os.File, name string) (loopdev.Device, *os.File, error) {
	return loopdev.Attach(ctx, loopdev.Options{File: image, Name: name, ReadOnly: true, Autoclear: true})
}

// loopName tells our devices from those that are attachments, INSTANCE/ID, which are looked for by that name.
func (d *Driver) loopName(id mount.ID) string { return fmt.Sprintf("%s/%d/uri", d.instance, id) }

// download gives a sealed file in memory that holds the image: what was checked is what is mounted, whoever tries.
func (d *Driver) download(ctx context.Context, id mount.ID, p plan, f *file) (image *os.File, err error) {
	err = step.Do(ctx, "uri.download", func(ctx context.Context) error {
		return f.report.during(ctx, func() error {
			var err error
			image, err = d.fill(id, p, f)
			return err
		})
	})
	if err != nil && image != nil {
		image.Close()
		image = nil
	}
	return image, err
}

func (d *Driver) fill(id mount.ID, p plan, f *file) (*os.File, error) {
	if err := f.body.SetLimit(p.size); err != nil {
		return nil, tooLarge(err, p)
	}
	image, err := memoryFile(fmt.Sprintf("%s-%d", d.instance, id))
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(image, f.reader)
	if err == nil {
		err = f.body.Verify(p.digest)
	}
	if err == nil {
		err = seal(image, n)
	}
	if err != nil {
		image.Close()
		return nil, imageError(err, p, n)
	}
	return image, nil
}

// memoryFile makes a file without a name that lives in memory.
func memoryFile(name string) (*os.File, error) {
	flags := unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// seal fills the last page up, because a loop device knows only whole sectors, and forbids every change.
func seal(image *os.File, size int64) error {
	const page = 4096
	if err := image.Truncate((size + page - 1) / page * page); err != nil {
		return fmt.Errorf("fill up %s: %w", image.Name(), err)
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(image.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal %s: %w", image.Name(), err)
	}
	return nil
}
