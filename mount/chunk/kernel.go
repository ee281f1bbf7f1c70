package chunk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/step"
)

// What the kernel mounts EROFS from: control.Open.Kernel.
const (
	fromFile = "file"
	fromLoop = "loop"
	noErofs  = ""
)

// kernel is what this node's kernel can do with EROFS.
type kernel struct {
	backing  string
	directIO bool // it takes the option directio for what is mounted from files
}

// check refuses a mode that the kernel cannot do.
func (k kernel) check(mode control.Mode) error {
	if k.backing != noErofs || mode == control.FUSE || mode == control.Auto {
		return nil
	}
	return fault.Hintf(fault.New(fault.Unsupported, "chunkfs.mode %s needs EROFS, which this kernel does not have", mode),
		"load its module (modprobe erofs), or leave the mode at auto: then FUSE is used")
}

// askKernel finds out, once, what the kernel can do.
func (d *Driver) askKernel(ctx context.Context) (kernel, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kernel != nil {
		return *d.kernel, nil
	}
	k, err := probeKernel(ctx, d.cfg.CacheDir)
	if err != nil {
		return kernel{}, fmt.Errorf("find out how this kernel mounts EROFS: %w", err)
	}
	d.kernel = &k
	return k, nil
}

// probeKernel tries to mount an empty file. A kernel that mounts files looks into it and finds no EROFS; one that does not, or not files
// of this file system (those of a tmpfs it does not), asks for a block device at once.
func probeKernel(ctx context.Context, dir string) (kernel, error) {
	direct, err := fsmount.Takes("erofs", fsmount.Option{Key: "directio", Flag: true})
	if fault.Is(err, fault.Unsupported) {
		return kernel{backing: noErofs}, nil
	}
	if err != nil {
		return kernel{}, err
	}
	var empty *os.File
	err = step.Do(ctx, "chunkfs.probe", func(context.Context) error {
		empty, err = emptyFile(dir)
		return err
	})
	if err != nil {
		return kernel{}, err
	}
	defer empty.Close()
	path := fmt.Sprintf("/proc/self/fd/%d", empty.Fd())
	mnt, err := fsmount.Create(ctx, "erofs", []fsmount.Option{source(path), {Key: "ro", Flag: true}}, unix.MOUNT_ATTR_RDONLY)
	if err == nil {
		mnt.Close()
	}
	var answer *fsmount.Error
	switch {
	case errors.Is(err, unix.ENOTBLK):
		return kernel{backing: fromLoop}, nil
	case err != nil && !errors.As(err, &answer):
		return kernel{}, err
	}
	return kernel{backing: fromFile, directIO: direct}, nil
}

// emptyFile makes a file without a name in the directory, which it makes where it is not there.
func emptyFile(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(f.Name()), f.Truncate(1<<16)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func source(path string) fsmount.Option {
	return fsmount.Option{Key: "source", Value: filepath.Clean(path)}
}
