package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/loopdev"
	"github.com/windlass-hpc/windlass/internal/step"
)

// setUp gives the disk its node, scheduler and depth, and makes it read-only where it is asked for.
func (l *link) setUp(ctx context.Context, k disk, readOnly bool) (disk, error) {
	if err := loopdev.MakeNode(ctx, k.path(), k.devnum); err != nil {
		return disk{}, err
	}
	err := step.Do(ctx, "iscsi.configure", func(ctx context.Context) error {
		if err := l.setDepth(ctx, k); err != nil {
			return err
		}
		if err := l.setScheduler(ctx, k); err != nil {
			return err
		}
		f, err := l.driver.opened(ctx, k)
		if err != nil {
			return err
		}
		defer f.Close()
		if readOnly && !k.readOnly {
			return l.setReadOnly(f)
		}
		return nil
	})
	if err != nil {
		return disk{}, fmt.Errorf("set up %s: %w", k.path(), err)
	}
	now, ok, err := readDisk(k.dir)
	if err != nil {
		return disk{}, err
	}
	if !ok {
		return disk{}, fault.New(fault.Backend, "%s has gone while it was set up", k.path())
	}
	return now, nil
}

func (l *link) setDepth(ctx context.Context, k disk) error {
	want := number(int(l.wanted.depth))
	if now, err := attribute(k.dir, "queue_depth"); err != nil || now == want {
		return err
	}
	return l.driver.cfg.Helper.Write(ctx, filepath.Join(k.dir, "queue_depth"), []byte(want))
}

// schedulerFile lies in a block device's directory.
const schedulerFile = "queue/scheduler"

// setScheduler chooses the I/O scheduler. The kernel may load it when it is asked for by name.
func (l *link) setScheduler(ctx context.Context, k disk) error {
	file := filepath.Join(k.dir, "block", k.name, schedulerFile)
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	available := strings.TrimSpace(string(b))
	if strings.Contains(" "+available+" ", " ["+l.wanted.scheduler+"] ") {
		return nil
	}
	for {
		err = l.driver.cfg.Helper.Write(ctx, file, []byte(l.wanted.scheduler))
		if !errors.Is(err, unix.ENOENT) || !exists(file) {
			break
		}
		// The file is there a moment before the kernel takes orders by it.
		if err := after(ctx, poll); err != nil {
			return err
		}
	}
	if errors.Is(err, unix.EINVAL) {
		if !l.wanted.schedulerAsked {
			return nil // the default of ours that this kernel does not have
		}
		err := fault.New(fault.Invalid, "iscsi.scheduler: the kernel has no I/O scheduler %s for this disk, only %s",
			l.wanted.scheduler, strings.NewReplacer("[", "", "]", "", " ", ", ").Replace(available))
		return fault.Hintf(err, "leave scheduler out, or load the module that has it")
	}
	return err
}

func (l *link) setReadOnly(f *os.File) error {
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.BLKROSET, 1); err != nil {
		return os.NewSyscallError("BLKROSET", err)
	}
	return nil
}

// opened gives the disk open, once it can be: its node is there a moment before the kernel knows what it is the node of.
func (d *Driver) opened(ctx context.Context, k disk) (*os.File, error) {
	for pause := poll; ; pause = min(2*pause, maxPoll) {
		f, err := d.openDisk(ctx, k, 0)
		if !errors.Is(err, unix.ENXIO) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			return f, err
		}
		if ended := after(ctx, pause); ended != nil {
			return nil, fmt.Errorf("%w: %w", ended, err)
		}
	}
}
