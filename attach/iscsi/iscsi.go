// Package iscsi is the attach driver of kind iscsi: a LUN of an iSCSI target, through the kernel's own initiator (module iscsi_tcp). It
// does what open-iscsi's daemon does elsewhere, so a node needs none.
//
// Each attachment has a session of its own, which carries the name INSTANCE.ID in the kernel (ifacename), so it is found again without
// memory, whoever made it. One thing the kernel cannot be asked: of a session that was made and not named yet, whose it is. For that
// moment a file speaks (promise):
//
//	DIR/ID          the address of the netlink socket that makes the session of attachment ID; the kernel shows it as the session's creator
//
// A session whose connection is lost is logged in again, under the same number, by a goroutine (keeper), while the kernel makes readers
// wait. Sessions outlive the daemon; Probe has the next one keep them.
//
// The driver reads no file system, loads no module, and touches no session without our name.
package iscsi

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/attach/iscsi/netlink"
	"github.com/windlass-hpc/windlass/internal/credential"
	"github.com/windlass-hpc/windlass/internal/helper"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Config is what a driver needs to know.
type Config struct {
	Instance    string // of the daemon (rundir.Dir.Instance)
	Dir         string // for the promises; it is made when it is first wanted, and must go with the boot
	Helper      *helper.Runner
	Credentials credential.Store
	Log         logrus.FieldLogger // hears of sessions that are lost and won again; nil: nobody does
}

// Driver is an attach.Driver, attach.Observer and attach.Aborter. It starts nothing before it is first used.
type Driver struct {
	cfg     Config
	sys     string // where sysfs is
	running context.Context
	stop    context.CancelFunc
	connect func() (*netlink.Kernel, error)
	turn    chan struct{} // holds one element while somebody connects

	mu      sync.Mutex
	kernel  *netlink.Kernel // nil until it is first wanted
	keepers map[attach.ID]*keeper
	facts   map[attach.ID]fact
}

var (
	_ attach.Driver   = (*Driver)(nil)
	_ attach.Observer = (*Driver)(nil)
	_ attach.Aborter  = (*Driver)(nil)
	_ io.Closer       = (*Driver)(nil)
)

// New makes a driver.
func New(cfg Config) *Driver {
	if cfg.Log == nil {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		cfg.Log = quiet
	}
	d := &Driver{
		cfg: cfg, sys: "/sys", connect: netlink.Open, turn: make(chan struct{}, 1),
		keepers: map[attach.ID]*keeper{}, facts: map[attach.ID]fact{},
	}
	d.running, d.stop = context.WithCancel(context.Background())
	return d
}

// Close ends what the driver does in the background. Sessions stay, and nobody logs them in again until a driver is asked for them by
// Probe.
func (d *Driver) Close() error {
	d.stop()
	d.mu.Lock()
	keepers, kernel := d.keepers, d.kernel
	d.keepers, d.kernel = map[attach.ID]*keeper{}, nil
	d.mu.Unlock()
	for _, k := range keepers {
		<-k.done
	}
	if kernel != nil {
		kernel.Close()
	}
	return nil
}

// Kind is the word for it on the wire.
func (*Driver) Kind() string { return string(models.AttachKindIscsi) }

// name is what the session of an attachment is called in the kernel.
func (d *Driver) name(id attach.ID) string {
	return d.cfg.Instance + "." + strconv.FormatInt(int64(id), 10)
}

// id reads the ID from a session's name; false when the session is not ours.
func (d *Driver) id(name string) (attach.ID, bool) {
	rest, ok := strings.CutPrefix(name, d.cfg.Instance+".")
	n, err := strconv.ParseInt(rest, 10, 64)
	if !ok || err != nil || n <= 0 || strconv.FormatInt(n, 10) != rest {
		return 0, false
	}
	return attach.ID(n), true
}

// Probe finds the ID's session. It is Ready when all was done that Attach does, whether the target answers now or not; then this driver
// keeps it from now on, if it has not done so.
func (d *Driver) Probe(ctx context.Context, id attach.ID, spec *models.Attach) (attach.Device, attach.State, error) {
	all, err := d.ours(id)
	if err != nil {
		return attach.Device{}, attach.Gone, fmt.Errorf("probe iscsi %d: %w", id, err)
	}
	if len(all) == 0 {
		return attach.Device{}, attach.Gone, d.fulfil(id) // what a daemon promised that was killed before it did it
	}
	s := all[0]
	dev, err := d.device(id, s)
	if err != nil {
		return attach.Device{}, attach.Gone, fmt.Errorf("probe iscsi %d: %w", id, err)
	}
	if len(all) > 1 || !s.complete || dev.Path == "" {
		return dev, attach.Partial, nil
	}
	if spec != nil && spec.Iscsi != nil && d.Validate(spec) == nil {
		w := wish(spec.Iscsi)
		if w.target != s.target {
			return dev, attach.Partial, nil
		}
		if err := d.adopt(ctx, id, w, s); err != nil {
			return dev, attach.Partial, fmt.Errorf("probe iscsi %d: %w", id, err)
		}
	}
	return dev, attach.Ready, nil
}

// List gives the devices of this instance; of a session without a device what there is of it.
func (d *Driver) List(context.Context) ([]attach.Device, error) {
	all, err := d.sessions()
	if err != nil {
		return nil, fmt.Errorf("list iSCSI sessions: %w", err)
	}
	promised, err := d.promises()
	if err != nil {
		return nil, err
	}
	var ours []attach.Device
	for _, s := range all {
		id, named := d.id(s.name)
		if !named {
			var ok bool
			if id, ok = promised[s.creator]; !ok || s.name != "" {
				continue
			}
		}
		dev, err := d.device(id, s)
		if err != nil {
			return nil, fmt.Errorf("list iSCSI sessions: %w", err)
		}
		ours = append(ours, dev)
	}
	return ours, nil
}

// device describes what there is of an attachment. Path is empty where there is no disk.
func (d *Driver) device(id attach.ID, s session) (attach.Device, error) {
	dev := attach.Device{ID: id, Number: int64(s.id)}
	disks, err := s.disks()
	if len(disks) == 1 {
		dev.Path, dev.DevNum, dev.ReadOnly = disks[0].path(), disks[0].devnum, disks[0].readOnly
	}
	return dev, err
}
