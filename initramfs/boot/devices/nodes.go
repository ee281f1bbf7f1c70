package devices

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/windlass-hpc/windlass/initramfs/kmod"
	"github.com/windlass-hpc/windlass/internal/step"
)

// Nodes makes the device nodes in dev, /dev on a node, and gives their number. Who opens one has the kernel load the driver behind it. What is
// there already stays: the driver was loaded, or is built in. One that cannot be made is told, and the others are made.
func Nodes(ctx context.Context, dev string, list []kmod.Node) (made int, err error) {
	var errs []error
	for _, n := range list {
		err := step.Do(ctx, "devices.node", func(context.Context) error { return makeNode(dev, n) })
		switch {
		case err == nil:
			made++
		case !errors.Is(err, unix.EEXIST):
			errs = append(errs, fmt.Errorf("make %s: %w", filepath.Join(dev, n.Name), err))
		}
	}
	return made, errors.Join(errs...)
}

func makeNode(dev string, n kmod.Node) error {
	path := filepath.Join(dev, n.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	kind := uint32(unix.S_IFCHR)
	if n.Block {
		kind = unix.S_IFBLK
	}
	mode := modeOf(n.Name)
	if err := unix.Mknod(path, kind|mode, int(unix.Mkdev(n.Major, n.Minor))); err != nil {
		return err
	}
	return unix.Chmod(path, mode) // whatever the umask is
}

// modeOf is what devtmpfs gives, but for those that ask who opens them for a right of their own, and which udev opens to all.
func modeOf(name string) uint32 {
	switch name {
	case "fuse", "net/tun", "vfio/vfio":
		return 0o666
	}
	return 0o600
}
