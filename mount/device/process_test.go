package device_test

import (
	"context"
	"testing"

	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/helper/helpertest"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/mounttest"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// beside is the driver as the chain calls it for a device that may stop answering.
type beside struct {
	mount.Driver
	process fsmount.Process
}

func (d beside) Mount(ctx context.Context, id mount.ID, s *models.Mount, below []mount.Layer, t mount.Target) (mount.Active, error) {
	return d.Driver.Mount(fsmount.In(ctx, d.process), id, s, below, t)
}

func (d beside) Unmount(ctx context.Context, a mount.Active, force bool) error {
	return d.Driver.Unmount(fsmount.In(ctx, d.process), a, force)
}

func TestDriverBesideTheDaemon(t *testing.T) {
	process := helper.New(helpertest.Shim(t))
	for _, fsType := range []string{"squashfs", "ext4"} {
		t.Run(fsType, func(t *testing.T) {
			suite := mounttest.Suite{New: func() mount.Driver { return beside{newDriver(), process} }, Make: func(t testing.TB) mounttest.Case {
				return mounttest.Case{
					Spec: spec(fsType), Below: []mount.Layer{mounttest.Loop(t, mounttest.Image(t, fsType), fsType == "squashfs")},
					Files: mounttest.Files(), Writable: fsType == "ext4",
				}
			}}
			if fsType == "squashfs" {
				suite.Hostile = hostile
			}
			mounttest.Run(t, suite)
		})
	}
}
