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
	dirs, err := matching(filepath.Join(d.sys, "class/iscsi_session"), "session*")
	if err != nil {
		return nil, err
	}
	var all []session
	for _, dir := range dirs {
		s, there, err := readSession(dir)
		if err != nil {
			return nil, err
		}
		if there {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b session) int { return int(a.id) - int(b.id) })
	return all, nil
}

// readSession reads a directory of class iscsi_session; false when it has gone. That it could not be looked at is an error.
func readSession(dir string) (session, bool, error) {
	id, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(dir), "session"), 10, 32)
	if err != nil {
		return session{}, false, nil
	}
	device, err := filepath.EvalSymlinks(filepath.Join(dir, "device")) // …/hostH/sessionN
	if absent(err) {
		return session{}, false, nil
	}
	if err != nil {
		return session{}, false, fmt.Errorf("look at iSCSI session %d: %w", id, err)
	}
	host, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(filepath.Dir(device)), "host"), 10, 32)
	if err != nil {
		return session{}, false, nil
	}
	s := session{id: uint32(id), host: uint32(host), dir: device}
	conn := filepath.Join(device, fmt.Sprintf("connection%d:0/iscsi_connection/connection%d:0", id, id))
	var creator, address, port string
	for _, a := range []struct {
		dir, name string
		to        *string
	}{
		{dir, "ifacename", &s.name}, {dir, "targetname", &s.target}, {dir, "state", &s.state}, {dir, "creator", &creator},
		{conn, "persistent_address", &address}, {conn, "persistent_port", &port},
	} {
		if *a.to, err = attribute(a.dir, a.name); err != nil {
			return session{}, false, fmt.Errorf("look at iSCSI session %d: %w", id, err)
		}
	}
	s.creator, _ = strconv.Atoi(creator)
	if address != "" {
		s.complete, s.portal = true, joinPort(address, port)
	}
	return s, s.state != "", nil
}

// attribute reads a file of sysfs. What is not there, or was never set, is empty; the C library has its ways to say the latter.
func attribute(dir, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if absent(err) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTCONN) {
		return "", nil // the last three are a transport's that has no such thing
	}
	v := strings.TrimSpace(string(b))
	if err != nil || v == "(null)" || v == "<NULL>" {
		return "", err
	}
	return v, nil
}

// absent says whether what was looked at is not there, or not any more.
func absent(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOTDIR)
}

// matching lists what is in a directory, with the directory's name; nothing when that is not there.
func matching(dir, pattern string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if ok, _ := filepath.Match(pattern, e.Name()); ok {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return all, nil
}

// find looks for a session by its number.
func (d *Driver) find(id uint32) (session, bool, error) {
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
