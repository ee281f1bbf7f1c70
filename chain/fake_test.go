package chain

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/idmap"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/internal/step"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// node is a kernel in memory: what the drivers below have put there. It outlives a chain, as a kernel outlives a daemon.
type node struct {
	mu      sync.Mutex
	there   map[ID]string   // what is there, by id
	busy    map[ID]bool     // what cannot be taken away
	calls   int             // driver calls so far
	failAt  int             // this call fails
	stallAt int             // this call does not come back before stall is closed
	stall   chan struct{}   // nil: it hangs until its context ends
	log     []string        // calls, for failures of tests
	running map[ID]*process // containers
	kills   int             // calls of Kill
	killErr error           // what they answer
	blind   int             // so many calls of Watch fail
	dead    *dead           // storage that may stop answering; nil when there is none

	ids map[ID]*idmap.Range // what mounts were asked to show
}

type process struct {
	status   container.Status
	watch    []chan container.Status
	signals  []int
	stubborn bool // only Kill ends it
}

func newNode() *node {
	return &node{there: map[ID]string{}, busy: map[ID]bool{}, running: map[ID]*process{}, ids: map[ID]*idmap.Range{}}
}

// call counts a driver call, and fails or hangs when it is the one.
func (n *node) call(ctx context.Context, what string, id ID) error {
	n.mu.Lock()
	n.calls++
	at := n.calls
	n.log = append(n.log, fmt.Sprintf("%s %d", what, id))
	fail, stall, gate := at == n.failAt, at == n.stallAt, n.stall
	n.mu.Unlock()
	return step.Do(ctx, what, func(ctx context.Context) error {
		switch {
		case fail:
			return fmt.Errorf("call %d fails", at)
		case stall && gate != nil:
			<-gate
			return fmt.Errorf("call %d came back late", at)
		case stall:
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
}

func (n *node) put(id ID, what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.there[id] = what
}

func (n *node) take(id ID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[id] {
		return fault.New(fault.Busy, "held by pid 1 (init)")
	}
	delete(n.there, id)
	return nil
}

func (n *node) has(id ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.there[id] != ""
}

// left lists what is on the node.
func (n *node) left() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := []string{}
	for id, what := range n.there {
		left = append(left, fmt.Sprintf("%s %d", what, id))
	}
	slices.Sort(left)
	return left
}

type fakeAttach struct{ n *node }

func (fakeAttach) Kind() string                    { return "loopback" }
func (fakeAttach) Validate(s *models.Attach) error { return nil }

func (d fakeAttach) Attach(ctx context.Context, id ID, s *models.Attach, b attach.Base) (attach.Device, error) {
	if err := d.n.call(ctx, "attach", id); err != nil {
		return attach.Device{}, err
	}
	d.n.put(id, "device")
	return attach.Device{ID: id, Path: fmt.Sprintf("/dev/fake%d", id), ReadOnly: b.ReadOnly}, nil
}

func (d fakeAttach) Detach(ctx context.Context, dev attach.Device, _ bool) error {
	if err := d.n.call(ctx, "detach", dev.ID); err != nil {
		return err
	}
	d.n.dead.wait()
	return d.n.take(dev.ID)
}

func (d fakeAttach) Probe(_ context.Context, id ID, _ *models.Attach) (attach.Device, attach.State, error) {
	d.n.dead.wait()
	if d.n.has(id) {
		return attach.Device{ID: id, Path: fmt.Sprintf("/dev/fake%d", id)}, attach.Ready, nil
	}
	return attach.Device{}, attach.Gone, nil
}

func (d fakeAttach) List(context.Context) ([]attach.Device, error) {
	d.n.mu.Lock()
	defer d.n.mu.Unlock()
	var devices []attach.Device
	for id, what := range d.n.there {
		if what == "device" {
			devices = append(devices, attach.Device{ID: id, Path: fmt.Sprintf("/dev/fake%d", id)})
		}
	}
	return devices, nil
}

type fakeMount struct {
	n    *node
	kind string
}

func (d fakeMount) Kind() string                 { return d.kind }
func (fakeMount) Validate(s *models.Mount) error { return nil }

func (d fakeMount) Mount(ctx context.Context, id ID, _ *models.Mount, layers []mount.Layer, t mount.Target) (mount.Active, error) {
	if err := d.n.call(ctx, "mount", id); err != nil {
		return mount.Active{}, err
	}
	for _, l := range layers {
		if !d.n.has(l.ID) {
			return mount.Active{}, fmt.Errorf("layer %d is not there", l.ID)
		}
	}
	d.n.mu.Lock()
	d.n.ids[id] = t.IDs
	d.n.mu.Unlock()
	d.n.put(id, "mount")
	return mount.Active{ID: id, Target: t}, nil
}

func (d fakeMount) Unmount(ctx context.Context, a mount.Active, force bool) error {
	if err := d.n.call(ctx, "unmount", a.ID); err != nil {
		return err
	}
	d.n.dead.wait()
	return d.n.take(a.ID)
}

func (d fakeMount) Probe(_ context.Context, id ID, _ *models.Mount, t mount.Target) (mount.Active, mount.State, error) {
	if d.n.has(id) {
		return mount.Active{ID: id, Target: t}, mount.Ready, nil
	}
	return mount.Active{}, mount.Gone, nil
}

type fakeRuntime struct{ n *node }

func (fakeRuntime) IDs(id ID, s *models.Container) *idmap.Range {
	if len(s.Namespaces) == 0 {
		return nil
	}
	return &idmap.Range{First: uint32(id) * 1000, Size: 1000}
}

func (fakeRuntime) Validate(*models.Container) error                       { return nil }
func (fakeRuntime) Check(context.Context, *models.Container, string) error { return nil }

func (r fakeRuntime) Start(ctx context.Context, id ID, s *models.Container, root string) (container.Status, error) {
	if err := r.n.call(ctx, "start", id); err != nil {
		return container.Status{}, err
	}
	p := &process{status: container.Status{State: container.Running, PID: 4711, Ready: true, Started: time.Now()}}
	r.n.mu.Lock()
	r.n.running[id] = p
	r.n.there[id] = "container"
	r.n.mu.Unlock()
	return p.status, nil
}

func (r fakeRuntime) Status(_ context.Context, id ID) (container.Status, error) {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	if p := r.n.running[id]; p != nil {
		return p.status, nil
	}
	return container.Status{State: container.Absent}, nil
}

func (r fakeRuntime) Watch(ctx context.Context, id ID) (<-chan container.Status, error) {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	if r.n.blind > 0 {
		r.n.blind--
		return nil, fmt.Errorf("nobody answers")
	}
	ch := make(chan container.Status, 16)
	if p := r.n.running[id]; p != nil {
		ch <- p.status
		p.watch = append(p.watch, ch)
		context.AfterFunc(ctx, func() { r.n.unwatch(p, ch) })
	}
	return ch, nil
}

func (n *node) unwatch(p *process, ch chan container.Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if i := slices.Index(p.watch, ch); i >= 0 {
		p.watch = slices.Delete(p.watch, i, i+1)
		close(ch)
	}
}

// change changes a container's status as its process would.
func (n *node) change(id ID, f func(*container.Status)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.running[id]
	if p == nil {
		return
	}
	f(&p.status)
	for _, ch := range p.watch {
		ch <- p.status
		if p.status.State == container.Exited {
			close(ch)
		}
	}
	if p.status.State == container.Exited {
		p.watch = nil
	}
}

func (n *node) exit(id ID, code int) {
	n.change(id, func(s *container.Status) {
		s.State, s.ExitCode, s.Finished = container.Exited, code, time.Now()
	})
}

func (r fakeRuntime) Signal(_ context.Context, id ID, signal int) error {
	r.n.mu.Lock()
	p := r.n.running[id]
	p.signals = append(p.signals, signal)
	stubborn := p.stubborn
	r.n.mu.Unlock()
	if !stubborn {
		r.n.exit(id, 0)
	}
	return nil
}

func (r fakeRuntime) Kill(_ context.Context, id ID) error {
	r.n.mu.Lock()
	r.n.kills++
	err := r.n.killErr
	r.n.mu.Unlock()
	r.n.dead.wait()
	if err == nil {
		r.n.exit(id, 137)
	}
	return err
}

func (r fakeRuntime) Pause(_ context.Context, id ID) error {
	r.n.change(id, func(s *container.Status) { s.State = container.Paused })
	return nil
}

func (r fakeRuntime) Resume(_ context.Context, id ID) error {
	r.n.change(id, func(s *container.Status) {
		if s.State == container.Paused {
			s.State = container.Running
		}
	})
	return nil
}

func (r fakeRuntime) Exec(context.Context, ID, *models.ExecSpec) (container.Process, error) {
	r.n.dead.wait()
	return nil, fault.New(fault.Unsupported, "the fake runs no further processes")
}

func (fakeRuntime) LogPath(id ID) string { return fmt.Sprintf("/log/%d", id) }

func (fakeRuntime) OpenLog(context.Context, ID) (container.Log, error) {
	return nil, fault.New(fault.Unsupported, "the fake keeps no log")
}

func (r fakeRuntime) Remove(ctx context.Context, id ID) error {
	if err := r.n.call(ctx, "remove", id); err != nil {
		return err
	}
	r.n.exit(id, 137)
	r.n.mu.Lock()
	delete(r.n.running, id)
	r.n.mu.Unlock()
	return r.n.take(id)
}

func (r fakeRuntime) List(context.Context) ([]ID, error) {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	var ids []ID
	for id := range r.n.running {
		ids = append(ids, id)
	}
	return ids, nil
}

// open starts a chain on the node, with more drivers where a test has some; it is closed with the test.
func open(t *testing.T, n *node, dir rundir.Dir, more ...mount.Driver) *Chain {
	t.Helper()
	return openWith(t, n, dir, Config{
		Mount:       mount.NewRegistry(append(more, fakeMounts(n)...)...),
		StepTimeout: 300 * time.Millisecond, UndoTimeout: 300 * time.Millisecond,
	})
}

func fakeMounts(n *node) []mount.Driver {
	return []mount.Driver{fakeMount{n, "attach"}, fakeMount{n, "overlay"}, fakeMount{n, "tmpfs"}, fakeMount{n, "bind"}}
}

// openWith starts a chain with what a test says of it, and the fake drivers where it says nothing.
func openWith(t *testing.T, n *node, dir rundir.Dir, cfg Config) *Chain {
	t.Helper()
	cfg.Dir, cfg.Runtime = dir, fakeRuntime{n}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(t.Output())
	}
	if cfg.Attach == nil {
		cfg.Attach = attach.NewRegistry(fakeAttach{n})
	}
	if cfg.Mount == nil {
		cfg.Mount = mount.NewRegistry(fakeMounts(n)...)
	}
	c, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func str(s string) *string { return &s }

// nested is a definition of four links: container, overlay, squashfs, loop.
func nested(name string) *models.Container {
	return &models.Container{
		Name: models.Name(name), Command: str("/sbin/init"), Systemd: true, State: models.ContainerStateRunning,
		Mount: &models.Mount{Kind: "overlay", Overlay: &models.MountOverlay{Lower: []*models.Mount{squashfs()}}},
	}
}

func squashfs() *models.Mount {
	base := models.Base("root")
	return &models.Mount{Kind: "attach", Attach: &models.MountAttach{FsType: str("squashfs"), Attach: &models.Attach{
		Kind: "loopback", Loopback: &models.AttachLoopback{Path: str("/image"), Base: &base}}}}
}
