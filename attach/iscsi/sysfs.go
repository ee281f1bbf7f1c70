package iscsi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/login"
)

// session is an iSCSI session as sysfs shows it.
type session struct {
	id, host uint32
	dir      string // of its device, where its SCSI targets lie
	name     string // ifacename; "" when it has none
	creator  int    // netlink socket that made it; 0 where the kernel does not tell
	target   string
	state    string // LOGGED_IN, FAILED or FREE
	complete bool   // Attach has come to its end
	portal   string // where it is, or was, logged in
}

// loggedIn is a session's state when all is well.
const loggedIn = "LOGGED_IN"

// sessions lists all that there are, by number.
func (d *Driver) sessions() ([]session, error) {
	dirs, err := filepath.Glob(filepath.Join(d.sys, "class/iscsi_session/session*"))
	if err != nil {
		return nil, err
	}
	var all []session
	for _, dir := range dirs {
		if s, ok := readSession(dir); ok {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b session) int { return int(a.id) - int(b.id) })
	return all, nil
}

// readSession reads a directory of class iscsi_session; false when it has gone.
func readSession(dir string) (session, bool) {
	id, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(dir), "session"), 10, 32)
	if err != nil {
		return session{}, false
	}
	device, err := filepath.EvalSymlinks(filepath.Join(dir, "device")) // …/hostH/sessionN
	if err != nil {
		return session{}, false
	}
	host, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(filepath.Dir(device)), "host"), 10, 32)
	if err != nil {
		return session{}, false
	}
	s := session{id: uint32(id), host: uint32(host), dir: device, name: attribute(dir, "ifacename"), target: attribute(dir, "targetname"), state: attribute(dir, "state")}
	s.creator, _ = strconv.Atoi(attribute(dir, "creator"))
	if s.state == "" {
		return session{}, false
	}
	conn := filepath.Join(device, fmt.Sprintf("connection%d:0/iscsi_connection/connection%d:0", id, id))
	if host := attribute(conn, "persistent_address"); host != "" {
		s.complete, s.portal = true, joinPort(host, attribute(conn, "persistent_port"))
	}
	return s, true
}

// attribute reads a file of sysfs. What was never set reads as the C library says so, in one of its ways.
func attribute(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	v := strings.TrimSpace(string(b))
	if v == "(null)" || v == "<NULL>" {
		return ""
	}
	return v
}

// find looks for a session by its number.
func (d *Driver) find(id uint32) (session, bool) {
	return readSession(filepath.Join(d.sys, "class/iscsi_session", fmt.Sprintf("session%d", id)))
}

// ours lists the sessions of an attachment: one, or more when a daemon was killed at a bad moment.
func (d *Driver) ours(id attach.ID) ([]session, error) {
	all, err := d.sessions()
	if err != nil {
		return nil, err
	}
	creator, err := d.promised(id)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s session) bool {
		return s.name != d.name(id) && !(s.name == "" && creator != 0 && s.creator == creator)
	}), nil
}

// disk is a SCSI device that is a block device.
type disk struct {
	name     string // such as sda
	dir      string // of the SCSI device
	devnum   uint64
	readOnly bool
}

func (k disk) path() string { return "/dev/" + k.name }

// units lists the directories of a session's SCSI devices, H:C:T:L.
func (s session) units() []string {
	dirs, _ := filepath.Glob(filepath.Join(s.dir, "target*", "*:*:*:*"))
	return dirs
}

// unit gives the directory of one LUN, "" when there is none.
func (s session) unit(lun int) string {
	for _, dir := range s.units() {
		if strings.HasSuffix(dir, ":"+strconv.Itoa(lun)) {
			return dir
		}
	}
	return ""
}

// disks lists a session's block devices.
func (s session) disks() []disk {
	var all []disk
	for _, dir := range s.units() {
		if k, ok := readDisk(dir); ok {
			all = append(all, k)
		}
	}
	return all
}

// readDisk finds the block device of a SCSI device; false when it has none, or none yet.
func readDisk(dir string) (disk, bool) {
	found, _ := filepath.Glob(filepath.Join(dir, "block", "*"))
	if len(found) != 1 {
		return disk{}, false
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(attribute(found[0], "dev"), "%d:%d", &major, &minor); err != nil {
		return disk{}, false
	}
	return disk{
		name: filepath.Base(found[0]), dir: dir, devnum: unix.Mkdev(major, minor), readOnly: attribute(found[0], "ro") == "1",
	}, true
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

func joinPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// place is where the session is, or was, logged in.
func (s session) place() login.Portal {
	p, err := login.ParsePortal(s.portal)
	if err != nil {
		return login.Portal{}
	}
	return p
}
