// Package blockdev reads from sysfs what the kernel says of a block device: its name, its partitions, whether it is read-only.
//
// It opens no device, since that can block and can wake hardware, and it changes nothing.
package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/internal/fault"
)

// Info is a block device or a partition.
type Info struct {
	Name      string // such as nvme0n1p1, without /dev
	DevNum    uint64 // st_rdev
	ReadOnly  bool
	Partition int   // number in the table, 0 for a whole device
	Sequence  int64 // of the disk, never used twice in a boot, so another disk under the same number shows; 0 before Linux 5.15
}

// Path is where the kernel wants the node.
func (i Info) Path() string { return filepath.Join("/dev", i.Name) }

// Get asks for the device with this number. NotFound: there is none.
func Get(devnum uint64) (Info, error) {
	dir := directory(devnum)
	uevent, err := os.ReadFile(filepath.Join(dir, "uevent"))
	if errors.Is(err, os.ErrNotExist) {
		return Info{}, fault.New(fault.NotFound, "the kernel has no block device %d:%d", unix.Major(devnum), unix.Minor(devnum))
	}
	if err != nil {
		return Info{}, fmt.Errorf("read from sysfs what the block device is: %w", err)
	}
	info := Info{DevNum: devnum, ReadOnly: number(dir+"/ro") != 0, Partition: int(number(dir + "/partition"))}
	disk := dir
	if info.Partition != 0 {
		disk += "/.." // the kernel resolves dir, a link, first
	}
	info.Sequence = number(disk + "/diskseq")
	for line := range strings.Lines(string(uevent)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			info.Name = name
		}
	}
	return info, nil
}

// Partitions lists the partitions of the device with this number that the kernel has, by their numbers.
func Partitions(devnum uint64) ([]Info, error) {
	files, err := filepath.Glob(filepath.Join(directory(devnum), "*", "partition"))
	if err != nil {
		return nil, fmt.Errorf("list partitions: %w", err)
	}
	var all []Info
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(file), "dev"))
		if err != nil {
			continue // gone since
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
			return nil, fmt.Errorf("read the device number of %s: %w", filepath.Dir(file), err)
		}
		info, err := Get(unix.Mkdev(major, minor))
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b Info) int { return a.Partition - b.Partition })
	return all, nil
}

// Partition finds one of them by its number; false when the kernel has none of that number.
func Partition(devnum uint64, n int) (Info, bool, error) {
	all, err := Partitions(devnum)
	if err != nil {
		return Info{}, false, err
	}
	i := slices.IndexFunc(all, func(p Info) bool { return p.Partition == n })
	if i < 0 {
		return Info{}, false, nil
	}
	return all[i], true, nil
}

// NoPartition is the error for a partition that the device on path does not have. It says which it has.
func NoPartition(path string, devnum uint64, n int) error {
	all, err := Partitions(devnum)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		err := fault.New(fault.Invalid, "%s has no partition %d: the kernel finds no partition table on it", path, n)
		return fault.Hintf(err, "leave the partition out to use the whole device")
	}
	numbers := make([]string, len(all))
	for i, p := range all {
		numbers[i] = strconv.Itoa(p.Partition)
	}
	return fault.New(fault.Invalid, "%s has no partition %d, only %s", path, n, strings.Join(numbers, ", "))
}

func directory(devnum uint64) string {
	return fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(devnum), unix.Minor(devnum))
}

// number reads an attribute, 0 when it is not there.
func number(file string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n
}
