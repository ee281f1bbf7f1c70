package main

import (
	"cmp"
	"crypto/x509"
	"io"
	"path/filepath"

	"github.com/go-openapi/strfmt"
	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi"
	"github.com/windlass-hpc/windlass/attach/local"
	"github.com/windlass-hpc/windlass/attach/loop"
	"github.com/windlass-hpc/windlass/attach/rbd"
	"github.com/windlass-hpc/windlass/internal/config"
	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/mount/bind"
	"github.com/windlass-hpc/windlass/mount/chunk"
	"github.com/windlass-hpc/windlass/mount/device"
	"github.com/windlass-hpc/windlass/mount/nfs"
	"github.com/windlass-hpc/windlass/mount/overlay"
	"github.com/windlass-hpc/windlass/mount/tmpfs"
	"github.com/windlass-hpc/windlass/mount/uri"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// drivers is what drivers share.
type drivers struct {
	cfg         config.Config
	dir         rundir.Dir
	helper      *helper.Runner
	credentials credential.Store
	log         *logrus.Logger
}

// attach is the list of attach drivers.
func (d drivers) attach() []attach.Driver {
	instance := d.dir.Instance()
	return []attach.Driver{
		local.New(),
		loop.New(instance),
		rbd.New(rbd.Config{
			Instance: instance, Dir: filepath.Join(string(d.dir), "rbd"), Helper: d.helper, Credentials: d.credentials,
			MountTimeout: d.cfg.RBDMountTimeout, RequestTimeout: d.cfg.RBDRequestTimeout,
		}),
		iscsi.New(iscsi.Config{
			Instance: instance, Dir: filepath.Join(string(d.dir), "iscsi"), Helper: d.helper, Credentials: d.credentials, Log: d.log,
		}),
	}
}

// mount is the list of mount drivers.
func (d drivers) mount(cas []*x509.Certificate, chunkfs chunk.Config) []mount.Driver {
	return []mount.Driver{
		device.New(), bind.New(), overlay.New(), tmpfs.New(), chunk.New(chunkfs), nfs.New(nfs.Config{Helper: d.helper}),
		uri.New(uri.Config{Instance: d.dir.Instance(), ExtraCAs: cas, UserAgent: "windlass/" + cmp.Or(version, "devel")}),
	}
}

// closers gives those of the drivers that do something in the background, which is to end with the daemon.
func closers[D any](drivers []D) (all []io.Closer) {
	for _, d := range drivers {
		if c, ok := any(d).(io.Closer); ok {
			all = append(all, c)
		}
	}
	return all
}

// leftBehind tells of the helpers that wait for storage that does not answer.
func (d drivers) leftBehind() []*models.LeftBehind {
	var all []*models.LeftBehind
	for _, l := range d.helper.Left() {
		all = append(all, &models.LeftBehind{Pid: int64(l.PID), What: l.What, Since: strfmt.DateTime(l.Since.UTC()), Where: l.Where})
	}
	return all
}
