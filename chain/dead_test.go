package chain

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// dead is storage that may stop answering. What waits for it then is in the kernel and heeds no context.
type dead struct {
	mu      sync.Mutex
	gate    chan struct{} // what waits for it waits until this is closed; nil: it answers
	waiting chan struct{} // closed once something waits
	aborts  []ID
	forced  []ID // what was unmounted by force
	said    string
}

// die has it stop answering. said is what the drivers see, if anything.
func (d *dead) die(said string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate, d.waiting, d.said = make(chan struct{}), make(chan struct{}), said
}

// revive has it answer again, or fail all that is asked of it, which for who waits is the same.
func (d *dead) revive() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate != nil {
		close(d.gate)
	}
	d.gate, d.said = nil, ""
}

func (d *dead) wait() {
	if gate := d.begin(); gate != nil {
		<-gate
	}
}

// begin gives what has to be waited for, nil when it answers.
func (d *dead) begin() <-chan struct{} {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gate == nil {
		return nil
	}
	select {
	case <-d.waiting:
	default:
		close(d.waiting)
	}
	return d.gate
}

// abort is what an Aborter does.
func (d *dead) abort(id ID) bool {
	d.mu.Lock()
	is := d.gate != nil
	if is {
		d.aborts = append(d.aborts, id)
	}
	d.mu.Unlock()
	if is {
		d.revive()
	}
	return is
}

func (d *dead) aborted() []ID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.aborts)
}

func (d *dead) seen() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said
}

// storageAttach attaches devices of storage that may be dead.
type storageAttach struct {
	fakeAttach
	kind string
}

func (d storageAttach) Kind() string                   { return d.kind }
func (storageAttach) Refresh(context.Context, []ID)    {}
func (d storageAttach) Observe(_ ID, a *models.Attach) { a.Error = d.n.dead.seen() }

func (d storageAttach) Abort(_ context.Context, dev attach.Device) (bool, error) {
	return d.n.dead.abort(dev.ID), nil
}

// storageMount is a network file system. To unmount it takes a helper that can be left behind, and by force does not wait.
type storageMount struct{ fakeMount }

func (storageMount) Refresh(context.Context, []ID)   {}
func (d storageMount) Observe(_ ID, m *models.Mount) { m.Error = d.n.dead.seen() }

func (d storageMount) Abort(_ context.Context, a mount.Active) (bool, error) {
	return d.n.dead.abort(a.ID), nil
}

func (d storageMount) Unmount(ctx context.Context, a mount.Active, force bool) error {
	if err := d.n.call(ctx, "unmount", a.ID); err != nil {
		return err
	}
	gate := d.n.dead.begin()
	switch {
	case force:
		d.n.dead.mu.Lock()
		d.n.dead.forced = append(d.n.dead.forced, a.ID)
		d.n.dead.mu.Unlock()
	case gate != nil:
		select {
		case <-gate:
		case <-ctx.Done():
			return fault.New(fault.Timeout, "stuck: umount has not come back")
		}
	}
	return d.n.take(a.ID)
}

// slowMount is storageMount whose Abort begins before Unmount is answered for the first time, and ends after that.
type slowMount struct {
	storageMount
	begun, refused chan struct{}
}

func (d slowMount) Abort(ctx context.Context, a mount.Active) (bool, error) {
	closeOnce(d.begun)
	<-d.refused
	return d.storageMount.Abort(ctx, a)
}

func (d slowMount) Unmount(ctx context.Context, a mount.Active, force bool) error {
	<-d.begun
	defer closeOnce(d.refused)
	return d.storageMount.Unmount(ctx, a, force)
}

// closeOnce closes a channel that one goroutine at a time may close.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// stubbornMount is storageMount whose Abort finds nothing to abort.
type stubbornMount struct{ storageMount }

func (stubbornMount) Abort(context.Context, mount.Active) (bool, error) { return false, nil }

// stubbornAttach is the same for an attachment.
type stubbornAttach struct{ storageAttach }

func (stubbornAttach) Abort(context.Context, attach.Device) (bool, error) { return false, nil }

func onNode() *node {
	n := newNode()
	n.dead = &dead{}
	return n
}

// storage gives a chain with drivers of network storage a Config.
func storage(n *node) Config {
	return Config{
		Attach: attach.NewRegistry(fakeAttach{n}, storageAttach{fakeAttach{n}, "rbd"}, storageAttach{fakeAttach{n}, "iscsi"}),
		Mount:  mount.NewRegistry(append(fakeMounts(n), storageMount{fakeMount{n, "nfs"}})...),
	}
}

func rbd() *models.Attach {
	return &models.Attach{Kind: "rbd", Rbd: &models.AttachRbd{Monitors: []string{"10.0.0.1"}, Pool: str("p"), Image: str("i"),
		Options: &models.RbdOptions{Secret: "hush"}}}
}

func onDevice(a *models.Attach) *models.Mount {
	return &models.Mount{Kind: "attach", Attach: &models.MountAttach{FsType: str("ext4"), Attach: a}}
}

func nfs() *models.Mount {
	return &models.Mount{Kind: "nfs", Nfs: &models.MountNfs{Host: str("h"), Path: str("/e")}}
}

func mounted(t *testing.T, c *Chain, spec *models.Mount) *models.Mount {
	t.Helper()
	m, err := c.Mount(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// healthyMount lies on nothing that is dead.
type healthyMount struct{ fakeMount }

func (d healthyMount) Unmount(ctx context.Context, a mount.Active, _ bool) error {
	if err := d.n.call(ctx, "unmount", a.ID); err != nil {
		return err
	}
	return d.n.take(a.ID)
}
