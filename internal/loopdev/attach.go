package loopdev

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/internal/undo"
)

// raceTimeout bounds how long Attach tries again when others take the free device first.
const raceTimeout = 20 * time.Second

// Attach configures a free loop device. It also gives the device open read-only: it keeps an autoclear device alive until something
// mounts it, and must be closed. On error nothing is left configured.
func Attach(ctx context.Context, o Options) (dev Device, f *os.File, err error) {
	if len(o.Name) > MaxName {
		return Device{}, nil, fault.New(fault.Invalid, "loop device name %q is longer than %d bytes", o.Name, MaxName)
	}
	control, err := openControl(ctx)
	if err != nil {
		return Device{}, nil, err
	}
	defer control.Close()

	var u undo.Stack
	defer func() {
		if err = u.Unwind(ctx, err); err != nil {
			dev, f = Device{}, nil
		}
	}()
	number, made := -1, (*os.File)(nil)
	err = step.Do(ctx, "loopback.configure", func(ctx context.Context) error {
		var err error
		if number, made, err = configure(ctx, control, o); err != nil {
			return err
		}
		u.Push("clear "+path(number), func(context.Context) error { return abandon(made) })
		return nil
	})
	if err != nil {
		return Device{}, nil, fmt.Errorf("configure a loop device on %s: %w", o.File.Name(), err)
	}
	return finish(ctx, number, made, o)
}

// finish checks that the kernel made what was asked for and swaps the descriptor for one that cannot write: some kernels refuse to
// mount a device that is open for writing.
func finish(ctx context.Context, number int, f *os.File, o Options) (Device, *os.File, error) {
	info, err := status(f)
	if err != nil {
		return Device{}, nil, fmt.Errorf("check %s: %w", path(number), err)
	}
	if o.DirectIO && info.Flags&unix.LO_FLAGS_DIRECT_IO == 0 {
		err := fault.New(fault.Unsupported, "direct I/O on %s is not possible: its file system or the alignment does not allow it", o.File.Name())
		return Device{}, nil, fault.Hintf(err, "leave direct_io out, or put the file on a file system with direct I/O and use an offset that is a multiple of 4096")
	}
	reader, devnum, err := open(ctx, number, unix.O_RDONLY)
	if err != nil {
		return Device{}, nil, err
	}
	f.Close()
	return describe(number, devnum, info), reader, nil
}

// configure takes a free device. Between asking for one and taking it others may be faster; then the next one is tried.
func configure(ctx context.Context, control *os.File, o Options) (int, *os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, raceTimeout)
	defer cancel()
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return 0, nil, os.NewSyscallError("LOOP_CTL_GET_FREE", err)
		}
		f, err := configureNumber(ctx, number, o)
		if err == nil {
			return number, f, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENXIO) {
			return 0, nil, err
		}
		select {
		case <-ctx.Done():
			return 0, nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(rand.N(2 * time.Millisecond)):
		}
	}
}

func configureNumber(ctx context.Context, number int, o Options) (*os.File, error) {
	flags := unix.O_RDWR
	if o.ReadOnly {
		flags = unix.O_RDONLY
	}
	f, _, err := open(ctx, number, flags)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(o.File.Fd()), Size: o.BlockSize}
	config.Info.Offset, config.Info.Sizelimit = o.Offset, o.SizeLimit
	copy(config.Info.File_name[:MaxName], o.Name)
	for _, flag := range []struct {
		on  bool
		bit uint32
	}{
		{o.ReadOnly, unix.LO_FLAGS_READ_ONLY}, {o.DirectIO, unix.LO_FLAGS_DIRECT_IO},
		{o.PartScan, unix.LO_FLAGS_PARTSCAN}, {o.Autoclear, unix.LO_FLAGS_AUTOCLEAR},
	} {
		if flag.on {
			config.Info.Flags |= flag.bit
		}
	}
	if err := unix.IoctlLoopConfigure(int(f.Fd()), &config); err != nil {
		f.Close()
		return nil, os.NewSyscallError("LOOP_CONFIGURE of "+path(number), err)
	}
	if o.ReadOnly {
		return f, nil
	}
	// A former user may have made the device read-only (BLKROSET): the kernel keeps that when it is configured anew.
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 0); err != nil {
		return nil, errors.Join(os.NewSyscallError("BLKROSET of "+path(number), err), abandon(f))
	}
	return f, nil
}

// abandon clears a device that nobody else knows of yet. Someone may be looking at it, udev for one: then it goes when he closes it.
func abandon(f *os.File) error {
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return os.NewSyscallError("LOOP_CLR_FD", err)
	}
	return nil
}
