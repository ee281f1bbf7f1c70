package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
)

// desync serves a file by FUSE that it fetches in chunks; the file is an EROFS image, which the kernel mounts.
type desync struct {
	s   setting
	web *web
	cmd *exec.Cmd
}

func (d *desync) name() string          { return "desync" }
func (d *desync) lazy() bool            { return true }
func (d *desync) program() string       { return filepath.Join(d.s.peers, "desync") }
func (d *desync) at(p string) string    { return filepath.Join(d.s.work, "desync", p) }
func (d *desync) store(p string) string { return filepath.Join(d.web.dir, "desync", p) }

func (d *desync) prepare(ctx context.Context) error {
	for _, dir := range []string{d.store("store"), d.at("file"), d.at("mnt")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return output(exec.CommandContext(ctx, d.program(), "make", "-s", d.store("store"), d.store("image.caibx"), filepath.Join(d.s.work, "plain.erofs")))
}

func (d *desync) cold(context.Context, workload) error { return os.RemoveAll(d.at("cor")) }

func (d *desync) mount(ctx context.Context, _ workload) (string, error) {
	url := "http://" + d.web.addr + "/desync/"
	d.cmd = exec.Command(d.program(), "mount-index", "-s", url+"store", "--cor-file", d.at("cor"), url+"image.caibx", d.at("file"))
	if err := start(d.cmd, d.at("log")); err != nil {
		return "", err
	}
	if err := mounted(ctx, d.cmd, d.at("file")); err != nil {
		return "", err
	}
	return d.at("mnt"), output(exec.CommandContext(ctx, "mount", "-t", "erofs", "-o", "ro", d.at("file/image"), d.at("mnt")))
}

func (d *desync) unmount() error {
	err := unmounted(d.at("mnt"))
	if fuse := unmounted(d.at("file")); err == nil {
		err = fuse
	}
	_ = ended(d.cmd)
	return err
}
