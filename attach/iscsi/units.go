package iscsi

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is a SCSI device that is a block device.
type disk struct {
	name     string // such as sda
	dir      string // of the SCSI device
	devnum   uint64
	readOnly bool
}

func (k disk) path() string { return "/dev/" + k.name }

// units lists the directories of a session's SCSI devices, H:C:T:L.
func (s session) units() ([]string, error) {
	targets, err := matching(s.dir, "target*")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, t := range targets {
		dirs, err := matching(t, "*:*:*:*")
		if err != nil {
			return nil, err
		}
		all = append(all, dirs...)
	}
	return all, nil
}

// unit gives the directory of one LUN, "" when there is none.
func (s session) unit(lun int) (string, error) {
	all, err := s.units()
	for _, dir := range all {
		if strings.HasSuffix(dir, ":"+strconv.Itoa(lun)) {
			return dir, nil
		}
	}
	return "", err
}

// disks lists a session's block devices.
func (s session) disks() ([]disk, error) {
	dirs, err := s.units()
	if err != nil {
		return nil, err
	}
	var all []disk
	for _, dir := range dirs {
		k, there, err := readDisk(dir)
		if err != nil {
			return nil, err
		}
		if there {
			all = append(all, k)
		}
	}
	return all, nil
}

// readDisk finds the block device of a SCSI device; false when it has none, or none yet.
func readDisk(dir string) (disk, bool, error) {
	found, err := matching(filepath.Join(dir, "block"), "*")
	if err != nil || len(found) != 1 {
		return disk{}, false, err
	}
	dev, err := attribute(found[0], "dev")
	if err != nil {
		return disk{}, false, err
	}
	ro, err := attribute(found[0], "ro")
	if err != nil {
		return disk{}, false, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(dev, "%d:%d", &major, &minor); err != nil {
		return disk{}, false, nil
	}
	return disk{name: filepath.Base(found[0]), dir: dir, devnum: unix.Mkdev(major, minor), readOnly: ro == "1"}, true, nil
}
