package iscsi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/windlass-hpc/windlass/attach"
)

func (d *Driver) promiseFile(id attach.ID) string {
	return filepath.Join(d.cfg.Dir, strconv.FormatInt(int64(id), 10))
}

// promise writes down who is about to make a session of id.
func (d *Driver) promise(id attach.ID, creator int) error {
	if err := os.MkdirAll(d.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of iSCSI attachments: %w", err)
	}
	return os.WriteFile(d.promiseFile(id), []byte(strconv.Itoa(creator)), 0o600)
}

// fulfil removes the promise: the session has its name, or is gone.
func (d *Driver) fulfil(id attach.ID) error {
	if err := os.Remove(d.promiseFile(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// promised gives who makes, or made, a session of id; 0 when nobody does.
func (d *Driver) promised(id attach.ID) (int, error) {
	b, err := os.ReadFile(d.promiseFile(id))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	creator, _ := strconv.Atoi(string(b)) // empty when its writer was killed: then there is no session yet
	return creator, nil
}

// promises gives all of them, by who made them. Those of one daemon that was killed are one: its sessions are nobody's, whatever their IDs.
func (d *Driver) promises() (map[int]attach.ID, error) {
	entries, err := os.ReadDir(d.cfg.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[int]attach.ID{}
	for _, e := range entries {
		id, err := strconv.ParseInt(e.Name(), 10, 64)
		if err != nil {
			continue
		}
		if creator, err := d.promised(attach.ID(id)); err == nil && creator != 0 {
			all[creator] = attach.ID(id)
		}
	}
	return all, nil
}
