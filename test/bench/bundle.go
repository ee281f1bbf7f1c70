package main

import (
	"encoding/json"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
)

// newBundle makes an OCI bundle for crun that does what ours does: the same root, the node's network, no terminal. It drops what a
// machine without every capability refuses: rules for devices and higher limits.
func newBundle(s setting, name string, command ...string) (string, error) {
	dir := filepath.Join(s.work, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	cmd := osexec.Command("crun", "spec")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("crun spec: %w: %s", err, out)
	}
	file := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		return "", err
	}
	parts := map[string]map[string]any{}
	for _, key := range []string{"process", "root", "linux"} {
		part, ok := all[key].(map[string]any)
		if !ok {
			return "", fmt.Errorf("crun spec made a specification without %s", key)
		}
		parts[key] = part
	}
	parts["root"]["path"], parts["root"]["readonly"] = s.rootfs, false
	parts["process"]["args"], parts["process"]["terminal"] = command, false
	delete(parts["process"], "rlimits")
	delete(parts["linux"], "resources")
	var namespaces []any
	for _, n := range []string{"pid", "mount", "ipc", "uts", "cgroup"} {
		namespaces = append(namespaces, wire{"type": n})
	}
	parts["linux"]["namespaces"] = namespaces
	if data, err = json.Marshal(all); err != nil {
		return "", err
	}
	return dir, os.WriteFile(file, data, 0o600)
}
