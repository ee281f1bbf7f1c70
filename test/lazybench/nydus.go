package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nydus is nydusd with a RAFS v6 image in a registry. It verifies nothing: nydusd refuses to start when it is told to verify a v6 image.
type nydus struct {
	s   setting
	web *web
	cmd *exec.Cmd
}

func (n *nydus) name() string       { return "nydus" }
func (n *nydus) lazy() bool         { return true }
func (n *nydus) at(p string) string { return filepath.Join(n.s.work, "nydus", p) }

func (n *nydus) prepare(ctx context.Context) error {
	blobs := filepath.Join(n.web.dir, "registry")
	for _, dir := range []string{blobs, n.at("mnt")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return output(exec.CommandContext(ctx, filepath.Join(n.s.peers, "nydus-image"), "create", "--fs-version", "6", "--compressor", "zstd",
		"--blob-dir", blobs, "--bootstrap", n.at("bootstrap"), n.s.tree))
}

func (n *nydus) cold(context.Context, workload) error {
	if err := os.RemoveAll(n.at("cache")); err != nil {
		return err
	}
	return n.configure()
}

func (n *nydus) mount(ctx context.Context, _ workload) (string, error) {
	n.cmd = exec.Command(filepath.Join(n.s.peers, "nydusd"), "fuse", "--config", n.at("config.json"), "--mountpoint", n.at("mnt"),
		"--bootstrap", n.at("bootstrap"), "--log-level", "warn", "--rlimit-nofile", "0")
	if err := start(n.cmd, n.at("log")); err != nil {
		return "", err
	}
	return n.at("mnt"), mounted(ctx, n.cmd, n.at("mnt"))
}

func (n *nydus) configure() error {
	config, err := json.Marshal(map[string]any{
		"device": map[string]any{
			"backend": map[string]any{"type": "registry", "config": map[string]any{"scheme": "http", "host": n.web.addr, "repo": "image"}},
			"cache":   map[string]any{"type": "blobcache", "config": map[string]any{"work_dir": n.at("cache")}},
		},
		"mode": "direct", "digest_validate": false, "iostats_files": false, "enable_xattr": true,
		"fs_prefetch": map[string]any{"enable": false},
	})
	if err != nil {
		return fmt.Errorf("nydus: %w", err)
	}
	if err := os.MkdirAll(n.at("cache"), 0o755); err != nil {
		return err
	}
	return os.WriteFile(n.at("config.json"), config, 0o644)
}

func (n *nydus) unmount() error {
	err := unmounted(n.at("mnt"))
	_ = ended(n.cmd)
	return err
}
