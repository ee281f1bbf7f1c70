package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// stargz is the file system of stargz-snapshotter with an eStargz layer in a registry. Its program is in the directory stargz: that
// project's library, mounted without containerd.
type stargz struct {
	s   setting
	web *web
	cmd *exec.Cmd
}

func (g *stargz) name() string       { return "stargz" }
func (g *stargz) lazy() bool         { return true }
func (g *stargz) program() string    { return filepath.Join(g.s.peers, "stargzfs") }
func (g *stargz) at(p string) string { return filepath.Join(g.s.work, "stargz", p) }

func (g *stargz) prepare(ctx context.Context) error {
	for _, dir := range []string{g.at("mnt"), filepath.Join(g.web.dir, "registry")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return output(exec.CommandContext(ctx, g.program(), "build", g.s.tree, filepath.Join(g.web.dir, "registry"), g.at("layer.json")))
}

func (g *stargz) cold(context.Context, workload) error { return os.RemoveAll(g.at("cache")) }

func (g *stargz) mount(ctx context.Context, _ workload) (string, error) {
	g.cmd = exec.Command(g.program(), "mount", g.web.addr, g.at("layer.json"), g.at("cache"), g.at("mnt"))
	if err := start(g.cmd, g.at("log")); err != nil {
		return "", err
	}
	return g.at("mnt"), mounted(ctx, g.cmd, g.at("mnt"))
}

func (g *stargz) unmount() error {
	err := unmounted(g.at("mnt"))
	_ = ended(g.cmd)
	return err
}
