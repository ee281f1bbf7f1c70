package loopdev

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// List gives every loop device that is configured, whoever made it, by number.
func List(ctx context.Context) ([]Device, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var all []Device
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list loop devices: %w", err)
		}
		number, err := numberOf(filepath.Dir(filepath.Dir(file)))
		if err != nil {
			continue
		}
		dev, err := get(ctx, number)
		if absent(err) {
			continue // gone since
		}
		if err != nil {
			return nil, fmt.Errorf("list loop devices: %w", err)
		}
		all = append(all, dev)
	}
	slices.SortFunc(all, func(a, b Device) int { return a.Number - b.Number })
	return all, nil
}

// FindByName gives the devices with this name: none, one, or more when a name was used twice.
func FindByName(ctx context.Context, name string) ([]Device, error) {
	all, err := List(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(d Device) bool { return d.Name != name }), nil
}

// get asks the kernel for one device. ENXIO: it is not configured.
func get(ctx context.Context, number int) (Device, error) {
	now, err := info(ctx, number)
	if err != nil {
		return Device{}, err
	}
	devnum, err := DevNum(sysfs(number, ""))
	if err != nil {
		return Device{}, err
	}
	return describe(number, devnum, now), nil
}

// info is get in the kernel's own form.
func info(ctx context.Context, number int) (*unix.LoopInfo64, error) {
	f, _, err := open(ctx, number, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	now, err := status(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path(number), err)
	}
	return now, nil
}
