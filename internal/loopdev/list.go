package loopdev

import (
	"context"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// List gives every loop device that is configured, whoever made it, by number.
func List(ctx context.Context) ([]Device, error) {
	numbers, err := numbers()
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var all []Device
	for _, number := range numbers {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list loop devices: %w", err)
		}
		// This directory is there while the device is configured, and most are not: there is no need to open those.
		if unix.Access(sysfs(number, "loop"), unix.F_OK) != nil {
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
	return all, nil
}

// numbers lists the loop devices that the kernel has, configured or not.
func numbers() ([]int, error) {
	dir, err := os.Open("/sys/block")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var all []int
	for _, name := range names {
		if n, err := numberOf(name); err == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
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
