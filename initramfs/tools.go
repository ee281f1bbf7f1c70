package initramfs

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/windlass-hpc/windlass/initramfs/cpio"
	"github.com/windlass-hpc/windlass/internal/fault"
)

// forerunner is the name of the service before us, which boot scripts start.
const forerunner = "imageapi-server"

// Tools plans one layer with windlass and its shim as plain programs, for an initramfs that has its own init: that of u-root with uinit, as
// Kraken's layercake builds it. It takes the place of the forerunner in /bbin, where u-root has its commands and Kraken's script starts it.
// modprobe puts windlass there as /sbin/modprobe, too, which works with a layer kmod of ours.
func Tools(o Options, modprobe bool) (*Plan, error) {
	if err := o.Compress.check(o.Level); err != nil {
		return nil, err
	}
	t := &cpio.Tree{}
	if err := programs(t, &o, elf.EM_NONE); err != nil {
		return nil, err
	}
	err := errors.Join(t.Link("bin/"+forerunner, "windlass"), t.Link("bbin/"+forerunner, "../"+windlassPath))
	if modprobe {
		err = errors.Join(err, t.Link("sbin/modprobe", "../"+windlassPath))
	}
	return &Plan{Layers: []*Layer{{Name: "tools", tree: t}}, compress: o.Compress, level: o.Level, time: o.Time}, err
}

// Unpack writes the files of the plan below a directory that is there, each whole or not at all. Only plain files, links and directories
// can be in it.
func (p *Plan) Unpack(ctx context.Context, dir string) error {
	for _, l := range p.Layers {
		for _, name := range l.tree.Names() {
			e, _ := l.tree.Get(name)
			if err := unpack(ctx, filepath.Join(dir, name), &e); err != nil {
				return fmt.Errorf("write the tools: %w", err)
			}
		}
	}
	return nil
}

func unpack(ctx context.Context, file string, e *cpio.Entry) error {
	switch e.Type() {
	case cpio.TypeDir:
		return os.MkdirAll(file, 0o755)
	case cpio.TypeSymlink:
		if to, err := os.Readlink(file); err == nil && to == string(e.Data) {
			return nil
		}
		if st, err := os.Lstat(file); err == nil && st.Mode()&os.ModeSymlink == 0 {
			return fault.New(fault.Exists, "%s is there and no link", file)
		}
		_ = os.Remove(file) // a link that leads elsewhere, or none
		return os.Symlink(string(e.Data), file)
	}
	return writeTool(ctx, file, e)
}

func writeTool(ctx context.Context, file string, e *cpio.Entry) error {
	return replace(ctx, file, e.FileMode().Perm(), func(w io.Writer) error {
		_, err := w.Write(e.Data)
		return err
	})
}
