package loopdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/holders"
	"github.com/windlass-hpc/windlass/internal/step"
)

// DefaultWait is how long Detach waits for a device that is in use. The last mount of a container that has just died goes a moment
// after its processes, and udev looks at every device that changes.
const DefaultWait = time.Second

// errInUse says that someone has the device mounted, claimed or open.
var errInUse = errors.New("it is in use")

// DetachOptions narrow what Clear does.
type DetachOptions struct {
	Name string        // clear the device only when it carries this name; "" for any
	Wait time.Duration // how long to wait for a device in use; 0 not at all
}

// Detach clears the loop device at path. When it is not configured, that is success. In use: Busy, naming who holds it, and the device is
// as before.
//
// It clears whatever is there. A number is soon given to somebody else when its device has gone: where that may have happened, use Clear
// with the name.
func Detach(ctx context.Context, path string) error {
	return Clear(ctx, path, DetachOptions{Wait: DefaultWait})
}

// Clear is Detach with options.
//
// LOOP_CLR_FD is not strict: with other users it answers success and only marks the device to go when the last one closes it. So the
// device is claimed first, which a mount or another claim forbids; then cleared; then it is checked that it has gone, since a
// process may have it open without a claim. If it has not, the mark is taken off again.
func Clear(ctx context.Context, path string, o DetachOptions) error {
	number, err := numberOf(path)
	if err != nil {
		return err
	}
	if there, err := carries(ctx, number, o.Name); err != nil || !there {
		return err
	}
	var was *unix.LoopInfo64
	err = step.Do(ctx, "loopback.clear", func(ctx context.Context) error {
		deadline := time.Now().Add(o.Wait)
		f, err := claim(ctx, number, deadline)
		if f == nil {
			return err
		}
		defer f.Close()
		was, err = clear(ctx, f, o.Name, deadline)
		return err
	})
	if errors.Is(err, errInUse) {
		devnum, _ := DevNum(sysfs(number, ""))
		err := fault.New(fault.Busy, "clear %s: %w by %s", path, err, holders.Text(holders.OfDevice(devnum)))
		return fault.Hintf(err, "unmount it, or stop the processes that have it open, then try again")
	}
	if err != nil {
		return fmt.Errorf("clear %s: %w", path, err)
	}
	return settle(ctx, number, was)
}

// carries says whether number is configured, with that name. It does not claim the device, so that it is never in the way of the owner
// of a device that is not ours.
func carries(ctx context.Context, number int, name string) (bool, error) {
	dev, err := get(ctx, number)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return name == "" || dev.Name == name, nil
}

// absent says whether err means that there is no such device, or that it is not configured.
func absent(err error) bool {
	return errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}

// claim opens the device exclusively. No file and no error: it has gone.
func claim(ctx context.Context, number int, deadline time.Time) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		f, _, err := open(ctx, number, unix.O_RDONLY|unix.O_EXCL)
		if err == nil {
			return f, nil
		}
		if absent(err) {
			return nil, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
		if err := rest(ctx, pause, deadline); err != nil {
			return nil, err
		}
	}
}

// clear clears the claimed device when it still has the name, and answers what it was; nil when there was nothing to clear.
func clear(ctx context.Context, f *os.File, name string, deadline time.Time) (*unix.LoopInfo64, error) {
	before, err := status(f)
	if absent(err) || err == nil && name != "" && nameOf(before) != name {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !absent(err) {
			return nil, os.NewSyscallError("LOOP_CLR_FD", err)
		}
		// ENXIO: it is not configured any more, or will not be as soon as f, the only descriptor, is closed.
		if _, err := status(f); absent(err) {
			return before, nil
		} else if err != nil {
			return nil, err
		}
		if err := rest(ctx, pause, deadline); err != nil {
			if uerr := unix.IoctlLoopSetStatus64(int(f.Fd()), before); uerr != nil {
				err = errors.Join(err, os.NewSyscallError("undo: LOOP_SET_STATUS64", uerr))
			}
			return nil, err
		}
	}
}

// rest sleeps until the next try. errInUse: there is no time for one.
func rest(ctx context.Context, pause time.Duration, deadline time.Time) error {
	if left := time.Until(deadline); left <= 0 {
		return errInUse
	} else if left < pause {
		pause = left
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// settle waits until the device that was cleared has gone for good: some kernels finish after the last close has returned.
func settle(ctx context.Context, number int, was *unix.LoopInfo64) error {
	deadline := time.Now().Add(DefaultWait)
	for pause := time.Millisecond; was != nil && backingFile(number) != ""; pause *= 2 {
		now, err := info(ctx, number)
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if now.File_name != was.File_name || now.Inode != was.Inode || now.Device != was.Device {
			return nil // the number has a new owner
		}
		if err := rest(ctx, pause, deadline); err != nil {
			return fmt.Errorf("clear %s: the kernel took the order but the device is still there: %w", path(number), err)
		}
	}
	return nil
}
