package nodestate

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
)

// rbds lists the mapped RBD images that end in the instance's mark, `windlass:INSTANCE:ID`, in the line with which they were mapped. The
// rest of that line is not shown: it holds the secret. The number of the device is no part of the key.
func rbds(f filter) ([]Item, error) {
	dirs, err := filepath.Glob(filepath.Join(f.sys, "bus/rbd/devices/*"))
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, dir := range dirs {
		line, err := os.ReadFile(filepath.Join(dir, "config_info"))
		if err != nil {
			continue // it went while we looked
		}
		words := bytes.Fields(line)
		if len(words) == 0 {
			continue
		}
		mark := strings.Split(string(words[len(words)-1]), ":")
		if len(mark) != 3 || mark[0] != "windlass" || mark[1] != f.instance {
			continue
		}
		image := word(dir, "pool") + "/" + word(dir, "name") + "@" + word(dir, "current_snap")
		items = append(items, Item{Class: RBD, Key: image + " of " + mark[2], Detail: "/dev/rbd" + filepath.Base(dir) + " is mapped"})
	}
	return items, nil
}

// sessions lists the iSCSI sessions whose interface is called INSTANCE.ID, and the SCSI devices that came with them. One without a name,
// which a daemon that was killed may have left, is everybody's: others give theirs names.
func sessions(f filter) ([]Item, error) {
	dirs, err := filepath.Glob(filepath.Join(f.sys, "class/iscsi_session/session*"))
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, dir := range dirs {
		name := word(dir, "ifacename")
		if name == "(null)" || name == "<NULL>" { // as the C library writes it
			name = "nameless"
		} else if !f.named(name) {
			continue
		}
		items = append(items, Item{Class: ISCSI, Key: name + " to " + word(dir, "targetname"),
			Detail: filepath.Base(dir) + " is " + word(dir, "state")})
		// sessionN/device/targetH:C:T/H:C:T:L; LUN 0 of a target may be a controller without a block device.
		luns, err := filepath.Glob(filepath.Join(dir, "device/target*/*:*:*:*"))
		if err != nil {
			return nil, err
		}
		for _, lun := range luns {
			number := lun[strings.LastIndexByte(lun, ':')+1:]
			items = append(items, Item{Class: SCSI, Key: name + " lun " + number, Detail: disk(lun) + " is " + word(lun, "state")})
		}
	}
	return items, nil
}

// disk gives the device file of a SCSI device; of one that has none, its address.
func disk(dir string) string {
	if blocks, _ := filepath.Glob(filepath.Join(dir, "block/*")); len(blocks) > 0 {
		return "/dev/" + filepath.Base(blocks[0])
	}
	return filepath.Base(dir)
}

// word reads a file of sysfs; empty when it went while we looked.
func word(dir, name string) string {
	data, _ := os.ReadFile(filepath.Join(dir, name))
	return string(bytes.TrimSpace(data))
}
