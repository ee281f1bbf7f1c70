package rbd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// mapped is a device of ours as the kernel has it.
type mapped struct {
	number   int64 // N of /dev/rbdN
	mark     mark
	devnum   uint64 // 0 while the disk is coming or going
	readOnly bool
}

func (m mapped) path() string { return fmt.Sprintf("/dev/rbd%d", m.number) }

func (m mapped) device(id attach.ID) attach.Device {
	return attach.Device{ID: id, Path: m.path(), DevNum: m.devnum, ReadOnly: m.readOnly, Number: m.number}
}

// mapped lists the devices of this instance.
func (d *Driver) mapped() ([]mapped, error) {
	dir := filepath.Join(d.sys, "bus/rbd/devices")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list rbd devices: %w", err)
	}
	var all []mapped
	for _, e := range entries {
		number, err := strconv.ParseInt(e.Name(), 10, 32)
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, e.Name(), "config_info"))
		if gone(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list rbd devices: %w", err)
		}
		mark, ok := parseMark(string(line))
		if !ok || mark.instance != d.cfg.Instance {
			continue
		}
		m := mapped{number: number, mark: mark}
		m.devnum, m.readOnly = d.disk(number)
		all = append(all, m)
	}
	return all, nil
}

// gone says whether err is that of an attribute that went while it was read.
func gone(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func (d *Driver) mappedAs(key string) ([]mapped, error) {
	all, err := d.mapped()
	var found []mapped
	for _, m := range all {
		if m.mark.key == key {
			found = append(found, m)
		}
	}
	return found, err
}

// disk gives the device number of the disk, 0 when there is none, and whether it is read-only.
func (d *Driver) disk(number int64) (devnum uint64, readOnly bool) {
	dir := d.block(number)
	b, err := os.ReadFile(filepath.Join(dir, "dev"))
	var major, minor uint32
	if _, serr := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil || serr != nil {
		return 0, false
	}
	ro, _ := os.ReadFile(filepath.Join(dir, "ro"))
	return unix.Mkdev(major, minor), strings.TrimSpace(string(ro)) == "1"
}

func (d *Driver) block(number int64) string {
	return filepath.Join(d.sys, "block", fmt.Sprintf("rbd%d", number))
}

// control is the file that a word is written to: with single_major, the default of the kernel, only the newer ones work.
func (d *Driver) control(name string) (string, error) {
	bus := filepath.Join(d.sys, "bus/rbd")
	for _, file := range []string{name + "_single_major", name} {
		path := filepath.Join(bus, file)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	err := fault.New(fault.Unsupported, "the kernel cannot map RBD images: there is no %s", filepath.Join(bus, name))
	return "", fault.Hintf(err, "load the module rbd (modprobe rbd, or a line rbd in /etc/modules-load.d), or use a kernel that has it")
}
