package rbd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/durable"
	"github.com/windlass-hpc/windlass/internal/step"
)

// lockName is the file in a key's directory that is locked; no ID is called so.
const lockName = "lock"

// holder is what the file of an attachment says: enough to speak of its device, and to take it away. It holds no secret.
type holder struct {
	Monitors       []string `json:"monitors"`
	Pool           string   `json:"pool"`
	Namespace      string   `json:"namespace,omitempty"`
	Image          string   `json:"image"`
	Snapshot       string   `json:"snapshot,omitempty"`
	ReadOnly       bool     `json:"read_only"`
	RequestTimeout int64    `json:"osd_request_timeout"` // seconds, 0 for never
	Force          bool     `json:"force,omitempty"`
}

// name is how users of Ceph write it: POOL/NAMESPACE/IMAGE@SNAPSHOT.
func (h holder) name() string {
	if h.Image == "" {
		return "an RBD image"
	}
	parts := []string{h.Pool, h.Namespace, h.Image}
	if h.Namespace == "" {
		parts = []string{h.Pool, h.Image}
	}
	name := strings.Join(parts, "/")
	if h.Snapshot != "" {
		name += "@" + h.Snapshot
	}
	return name
}

func (d *Driver) dir(key string) string { return filepath.Join(d.cfg.Dir, key) }

func holderFile(dir string, id attach.ID) string {
	return filepath.Join(dir, strconv.FormatInt(int64(id), 10))
}

// holdersIn lists who holds a key, in order.
func holdersIn(dir string) ([]attach.ID, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []attach.ID
	for _, e := range entries {
		if id, ok := parseID(e.Name()); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// readHolder gives what is known of one; a file that cannot be read says nothing.
func readHolder(dir string, id attach.ID) holder {
	var h holder
	if b, err := os.ReadFile(holderFile(dir, id)); err == nil {
		_ = json.Unmarshal(b, &h)
	}
	return h
}

// keysOf finds what id holds: by its files, and by the marks of devices that nobody holds, as when the files were lost.
func (d *Driver) keysOf(id attach.ID) ([]string, error) {
	entries, err := os.ReadDir(d.cfg.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		if _, err := os.Lstat(holderFile(d.dir(e.Name()), id)); err == nil && isShareKey(e.Name()) {
			keys = append(keys, e.Name())
		}
	}
	all, err := d.mapped()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.mark.id != id || slices.Contains(keys, m.mark.key) {
			continue
		}
		ids, err := holdersIn(d.dir(m.mark.key))
		if err != nil {
			return nil, err
		}
		if len(ids) == 0 {
			keys = append(keys, m.mark.key)
		}
	}
	return keys, nil
}

func (g *group) has(id attach.ID) bool {
	_, err := os.Lstat(holderFile(g.dir, id))
	return err == nil
}

// hold writes that id uses the device, before it does.
func (g *group) hold(ctx context.Context, id attach.ID, h holder) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return step.Do(ctx, "rbd.hold", func(ctx context.Context) error {
		return durable.WriteFile(ctx, holderFile(g.dir, id), b, 0o600)
	})
}

// release takes that back.
func (g *group) release(ctx context.Context, id attach.ID) error {
	err := step.Do(ctx, "rbd.release", func(ctx context.Context) error { return durable.Remove(ctx, holderFile(g.dir, id)) })
	if err != nil {
		return fmt.Errorf("note that the device is not held any more: %w", err)
	}
	return nil
}

// others lists who holds the device beside id.
func (g *group) others(id attach.ID) ([]attach.ID, error) {
	ids, err := holdersIn(g.dir)
	return slices.DeleteFunc(ids, func(other attach.ID) bool { return other == id }), err
}
