package chain

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// vagueAttach answers that the storage does not answer, as a driver does that asks with a deadline.
type vagueAttach struct{ storageAttach }

func (d vagueAttach) Probe(ctx context.Context, id ID, s *models.Attach) (attach.Device, attach.State, error) {
	if d.n.dead.begin() != nil {
		return attach.Device{}, attach.Gone, fault.New(fault.Timeout, "stuck: the device has not answered")
	}
	return d.storageAttach.Probe(ctx, id, s)
}

// With dead storage the daemon starts all the same. What it lies on is neither lost nor reaped, and known again when it answers.
func TestRestartOnDeadStorage(t *testing.T) {
	for name, vague := range map[string]bool{"a probe hangs": false, "a probe says so": true} {
		t.Run(name, func(t *testing.T) {
			n, dir := onNode(), runDir(t)
			cfg := storage(n)
			cfg.ProbeWait = 100 * time.Millisecond
			if vague {
				cfg.Attach = attach.NewRegistry(fakeAttach{n}, vagueAttach{storageAttach{fakeAttach{n}, "rbd"}})
			}
			c := openWith(t, n, dir, cfg)
			m := mounted(t, c, onDevice(rbd()))
			v := create(t, c, nested("b"))
			c.Close()
			n.dead.die("")
			c = openWith(t, n, dir, cfg)
			dev := m.Attach.Attach.ID
			got, err := c.Attachments((*int64)(&dev), "")
			if err != nil || got[0].State != string(Ready) || !strings.HasPrefix(got[0].Error, "stuck: ") || got[0].DeviceFile == "" {
				t.Fatalf("it shows as %+v, %v", got, err)
			}
			if _, err := c.Mount(t.Context(), &models.Mount{Kind: "tmpfs", Tmpfs: &models.MountTmpfs{}}); err != nil {
				t.Errorf("nothing else can be made: %v", err)
			}
			n.dead.revive()
			ctx, cancel := contextFor(t)
			defer cancel()
			if !c.await(ctx, c.objects[dev], func() bool { return c.objects[dev].err == "" && !c.objects[dev].unsure }) {
				t.Errorf("it answers, and shows as %q", c.objects[dev].err)
			}
			if !n.has(dev) || !n.has(m.ID) || !n.has(v.ID) {
				t.Errorf("something was taken away: %v", n.left())
			}
		})
	}
}

// It can be deleted by force while nobody knows whether it is there.
func TestWhatIsNotKnownGoesByForce(t *testing.T) {
	n, dir := onNode(), runDir(t)
	cfg := storage(n)
	c := openWith(t, n, dir, cfg)
	m := mounted(t, c, onDevice(rbd()))
	c.Close()
	n.dead.die("")
	cfg = storage(n)
	cfg.ProbeWait, cfg.ForceAfter, cfg.AnswerTimeout = 50*time.Millisecond, 10*time.Millisecond, 20*time.Second
	c = openWith(t, n, dir, cfg)
	if _, err := c.Unmount(t.Context(), int64(m.ID), true); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}

// countingAttach counts how many probes are under way at once.
type countingAttach struct {
	storageAttach
	now, most *atomic.Int64
}

func (d countingAttach) Probe(ctx context.Context, id ID, s *models.Attach) (attach.Device, attach.State, error) {
	d.most.Store(max(d.most.Load(), d.now.Add(1)))
	defer d.now.Add(-1)
	return d.storageAttach.Probe(ctx, id, s)
}

// What is being asked about is not asked about again.
func TestOneProbeAtATime(t *testing.T) {
	n, dir := onNode(), runDir(t)
	cfg := storage(n)
	d := countingAttach{storageAttach{fakeAttach{n}, "rbd"}, &atomic.Int64{}, &atomic.Int64{}}
	cfg.Attach, cfg.ProbeWait = attach.NewRegistry(fakeAttach{n}, d), 50*time.Millisecond
	c := openWith(t, n, dir, cfg)
	m := mounted(t, c, onDevice(rbd()))
	c.Close()
	n.dead.die("")
	c = openWith(t, n, dir, cfg)
	o := c.objects[m.Attach.Attach.ID]
	var asking sync.WaitGroup
	defer asking.Wait()
	defer n.dead.revive()
	for range 3 { // as askOn does, while the first has not come back
		asking.Go(func() { c.ask(o) })
	}
	ctx, cancel := contextFor(t)
	defer cancel()
	for d.now.Load() == 0 && ctx.Err() == nil {
		pause(ctx, time.Millisecond)
	}
	pause(ctx, 100*time.Millisecond) // more than it takes to call a driver
	if most := d.most.Load(); most != 1 {
		t.Errorf("%d probes at once", most)
	}
}

// Of two calls that were left behind both have to come back.
func TestStuckUntilAllHaveComeBack(t *testing.T) {
	c := openWith(t, newNode(), runDir(t), Config{})
	o := newObject(KindMount, nil)
	one, two := make(chan struct{}), make(chan struct{})
	c.leaveBehind(o, one)
	c.leaveBehind(o, two)
	close(two)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil && c.stuck(o) {
		pause(ctx, time.Millisecond)
	}
	if !c.stuck(o) {
		t.Error("the first has not come back, and it is not stuck")
	}
	close(one)
	ctx, cancel = contextFor(t)
	defer cancel()
	for c.stuck(o) && pause(ctx, time.Millisecond) {
	}
	if c.stuck(o) {
		t.Error("both have come back, and it is stuck")
	}
}
