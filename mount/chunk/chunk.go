// Package chunk is the mount driver of kind "chunkfs": images that are mounted before they are there.
//
// The image is opened by the chunkfs server, a process of its own, which fetches, verifies and serves it. The driver sees to it that the
// server runs, and mounts EROFS on the files that it gives; only in mode fuse the server mounts by itself. The driver keeps in Scratch a
// note of what it asked the server for: written before it asks, removed when the server has it back.
//
// The package owns mounts, never an image or a chunk. It waits for the server under a deadline only.
package chunk

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/windlass-hpc/windlass/chunkfs/control"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/internal/mountinfo"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/internal/undo"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// Config says how a Driver works.
type Config struct {
	// Instance names this daemon in the loop devices it makes: rundir.Dir.Instance.
	Instance string
	// Starter starts the server.
	Starter *control.Starter
	// CacheDir is where the server keeps images: whether the kernel mounts files is tried on its file system.
	CacheDir string
}

// Driver mounts kind chunkfs.
type Driver struct {
	cfg Config

	mu     sync.Mutex
	kernel *kernel // nil until it is known

	watch watch
}

var (
	_ mount.Driver   = (*Driver)(nil)
	_ mount.Lister   = (*Driver)(nil)
	_ mount.Observer = (*Driver)(nil)
)

// New makes the driver.
func New(cfg Config) *Driver { return &Driver{cfg: cfg} }

// Kind implements mount.Driver.
func (*Driver) Kind() string { return string(models.MountKindChunkfs) }

// Validate implements mount.Driver.
func (*Driver) Validate(spec *models.Mount) error {
	_, err := parse(spec)
	return err
}

// Mount implements mount.Driver.
func (d *Driver) Mount(ctx context.Context, id mount.ID, spec *models.Mount, _ []mount.Layer, target mount.Target) (a mount.Active, err error) {
	order, err := parse(spec)
	if err != nil {
		return mount.Active{}, err
	}
	if err := target.CheckUnused(); err != nil {
		return mount.Active{}, err
	}
	k, err := d.askKernel(ctx)
	if err != nil {
		return mount.Active{}, err
	}
	if err := k.check(order.Mode); err != nil {
		return mount.Active{}, err
	}
	order.ID, order.Target, order.Kernel, order.Order = name(id), target.Dir, k.backing, rand.Text()
	server, err := d.cfg.Starter.Server(ctx)
	if err != nil {
		return mount.Active{}, err
	}
	var u undo.Stack
	defer func() {
		if err = u.Unwind(ctx, err); err != nil {
			a = mount.Active{}
		}
	}()
	u.Push("give the image back", func(ctx context.Context) error { return d.giveBack(ctx, id, target, order.Order) })
	opened, err := d.open(ctx, server, order, target)
	if err != nil {
		return mount.Active{}, err
	}
	if err := d.place(ctx, id, opened, k, target, &u); err != nil {
		return mount.Active{}, err
	}
	return found(id, opened, target)
}

// place mounts what the server has opened at the target, unless the server has done so.
func (d *Driver) place(ctx context.Context, id mount.ID, opened control.Opened, k kernel, target mount.Target, u *undo.Stack) error {
	if opened.Mode == control.FUSE {
		return nil
	}
	mnt, err := d.mountErofs(ctx, id, opened, k)
	if err != nil {
		return err
	}
	defer mnt.Close()
	number, err := fsmount.ID(mnt)
	if err != nil {
		return err
	}
	u.Push("unmount "+target.Dir, func(ctx context.Context) error {
		mnt.Close() // it keeps the mount busy
		return unmountIf(ctx, target.Dir, number)
	})
	return fsmount.Move(ctx, mnt, target.Dir)
}

// unmountIf unmounts what is at dir when it is our mount: the move may have failed because of another.
func unmountIf(ctx context.Context, dir string, number uint64) error {
	at, err := fsmount.At(dir)
	if err != nil || at == nil || uint64(at.ID) != number {
		return err
	}
	return fsmount.Unmount(ctx, dir)
}

// found asks the kernel for what is mounted now, by us or by the server.
func found(id mount.ID, opened control.Opened, target mount.Target) (mount.Active, error) {
	at, err := fsmount.At(target.Dir)
	switch {
	case err != nil:
		return mount.Active{}, fmt.Errorf("look at what was mounted: %w", err)
	case at == nil, opened.Mode == control.FUSE && !isFUSE(at):
		return mount.Active{}, fault.New(fault.Internal, "the chunkfs server says that it has mounted at %s, and the kernel does not", target.Dir)
	case !fsmount.ReadOnly(at):
		return mount.Active{}, fault.New(fault.Internal, "what was mounted at %s can be written", target.Dir)
	}
	return active(id, target, at), nil
}

func active(id mount.ID, target mount.Target, at *mountinfo.Info) mount.Active {
	return mount.Active{ID: id, Target: target, MountID: uint64(at.ID), ReadOnly: fsmount.ReadOnly(at)}
}

func isFUSE(at *mountinfo.Info) bool {
	return at.FSType == "fuse" || strings.HasPrefix(at.FSType, "fuse.")
}

// Probe implements mount.Driver. A mount whose server died with its keeper cannot be read any more, so it is Partial. A server that
// lives and does not answer is no reason to take a mount away.
func (d *Driver) Probe(ctx context.Context, id mount.ID, _ *models.Mount, target mount.Target) (mount.Active, mount.State, error) {
	a := mount.Active{ID: id, Target: target}
	at, err := fsmount.At(target.Dir)
	if err != nil {
		return a, mount.Gone, fmt.Errorf("probe the mount at %s: %w", target.Dir, err)
	}
	owed, err := d.owes(id, target)
	switch {
	case err != nil:
		return a, mount.Gone, err
	case at == nil && !owed:
		return a, mount.Gone, nil
	case at == nil, at.FSType != "erofs" && !isFUSE(at), d.dead(ctx, id, at, target):
		return a, mount.Partial, nil
	}
	return active(id, target, at), mount.Ready, nil
}

// List implements mount.Lister: the mounts that the server has opened.
func (d *Driver) List(context.Context) ([]mount.ID, error) {
	entries, err := os.ReadDir(d.cfg.Starter.Place().Mounts())
	if os.IsNotExist(err) {
		return nil, nil
	}
	var ids []mount.ID
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), ".json")
		if id, isID := rundir.ID(base); ok && isID {
			ids = append(ids, mount.ID(id))
		}
	}
	return ids, err
}

func name(id mount.ID) string { return strconv.FormatInt(int64(id), 10) }
