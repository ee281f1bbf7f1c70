package chain

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// What was aborted is not given back: its disk has gone. It says who holds it and goes when they let go.
func TestWhatWasAbortedIsNotGivenBack(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.ForceAfter = 20*time.Second, 10*time.Millisecond
	c := openWith(t, n, runDir(t), cfg)
	m := mounted(t, c, onDevice(rbd()))
	n.busy[m.ID] = true // a shell sits in it
	n.dead.die("stuck: no target")
	_, err := c.Unmount(t.Context(), int64(m.ID), true)
	stuckOrFail(t, err, "aborted", "held by pid 1 (init)")
	if d := cmp.Diff([]ID{1}, n.dead.aborted()); d != "" {
		t.Errorf("aborted: %s", d)
	}
	got, err := c.Mounts((*int64)(&m.ID), "")
	if err != nil || got[0].State != string(Undoing) || !strings.Contains(got[0].Error, "stuck: aborted") {
		t.Fatalf("it shows as %+v, %v", got, err)
	}
	n.mu.Lock()
	n.busy[m.ID] = false
	n.mu.Unlock()
	if _, err := c.Unmount(t.Context(), int64(m.ID), true); err != nil && !fault.Is(err, fault.NotFound) {
		t.Errorf("once nobody holds it: %v", err)
	}
	assertEmpty(t, n, c)
}

// Two chains share a dead device: when both go by force it is aborted, in whatever they hang.
func TestForceAbortsASharedDeviceWhenAllGoByForce(t *testing.T) {
	for name, stubborn := range map[string]bool{"the containers hang": true, "what they lay on hangs": false} {
		t.Run(name, func(t *testing.T) {
			n := onNode()
			cfg := storage(n)
			cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout, cfg.StopTimeout = 300*time.Millisecond, 10*time.Millisecond, time.Minute, time.Millisecond
			c := openWith(t, n, runDir(t), cfg)
			one, two := boxOn(onDevice(rbd())), boxOn(onDevice(rbd()))
			two.Name = "b"
			a, b := create(t, c, one), create(t, c, two)
			share(c, a.Mount.Attach.Attach.ID, b.Mount.Attach.Attach.ID)
			n.running[a.ID].stubborn, n.running[b.ID].stubborn = stubborn, stubborn
			n.dead.die("")
			_, err := c.DeleteContainer(t.Context(), nil, str("a"), true)
			if stubborn {
				stuckOrFail(t, err)
			}
			if got := n.dead.aborted(); len(got) > 0 {
				t.Errorf("%v was aborted, and with it the other chain", got)
			}
			c.cfg.AnswerTimeout = 20 * time.Second
			if _, err := c.DeleteContainer(t.Context(), nil, str("b"), true); err != nil {
				t.Fatal(err)
			}
			if len(n.dead.aborted()) == 0 {
				t.Error("nothing was aborted")
			}
			assertEmpty(t, n, c)
		})
	}
}

// What is lost has no device, whatever the name of the one that it had.
func TestWhatIsLostSharesNoDevice(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout = 20*time.Second, 10*time.Millisecond, time.Minute
	c := openWith(t, n, runDir(t), cfg)
	one := mounted(t, c, onDevice(rbd()))
	lost, err := c.Attach(t.Context(), rbd())
	if err != nil {
		t.Fatal(err)
	}
	share(c, one.Attach.Attach.ID, lost.ID)
	c.update(c.objects[lost.ID], func() { c.objects[lost.ID].phase = Lost })
	n.dead.die("")
	if _, err := c.Unmount(t.Context(), int64(one.ID), true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Detach(t.Context(), int64(lost.ID), true); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}

// share gives attachments one device.
func share(c *Chain, ids ...ID) {
	for _, id := range ids {
		c.update(c.objects[id], func() { c.objects[id].device.Path = "/dev/rbd0" })
	}
}

// askingMount asks, as it mounts and unmounts, for a mount from a device: that shows where it would be made.
type askingMount struct{ fakeMount }

func (d askingMount) ask(ctx context.Context) {
	_, _ = fsmount.Create(ctx, "none", []fsmount.Option{{Key: "source", Value: "/dev/none"}}, 0)
}

func (d askingMount) Mount(ctx context.Context, id ID, s *models.Mount, layers []mount.Layer, t mount.Target) (mount.Active, error) {
	d.ask(ctx)
	return d.fakeMount.Mount(ctx, id, s, layers, t)
}

func (d askingMount) Unmount(ctx context.Context, a mount.Active, force bool) error {
	d.ask(ctx)
	return d.fakeMount.Unmount(ctx, a, force)
}

// asked counts what is to be made beside the daemon.
type asked struct {
	fsmount.Process
	times atomic.Int64
}

func (p *asked) Create(context.Context, string, []fsmount.Option, uint64) (*os.File, error) {
	p.times.Add(1)
	return nil, errors.New("not here")
}

// What lies on storage that may stop answering is mounted and unmounted beside the daemon, which must be able to end; the rest is not.
func TestWhatMayHangIsMountedBesideTheDaemon(t *testing.T) {
	n, beside := onNode(), &asked{}
	cfg := storage(n)
	cfg.Mount = mount.NewRegistry(askingMount{fakeMount{n, "attach"}}, askingMount{fakeMount{n, "overlay"}})
	cfg.Process = beside
	c := openWith(t, n, runDir(t), cfg)
	for _, tc := range []struct {
		spec *models.Mount
		want int64
	}{{squashfs(), 0}, {onDevice(rbd()), 2}, {&models.Mount{Kind: "overlay", Overlay: &models.MountOverlay{Lower: []*models.Mount{onDevice(rbd())}}}, 4}} {
		beside.times.Store(0)
		m := mounted(t, c, tc.spec)
		if _, err := c.Unmount(t.Context(), int64(m.ID), false); err != nil {
			t.Fatal(err)
		}
		assertEmpty(t, n, c)
		if got := beside.times.Load(); got != tc.want {
			t.Errorf("%s: %d beside the daemon, want %d", tc.spec.Kind, got, tc.want)
		}
	}
}

// A daemon that is killed while what lay below hangs is followed by one that goes on by force.
func TestForceOutlivesTheDaemon(t *testing.T) {
	n, dir := onNode(), runDir(t)
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout = 200*time.Millisecond, time.Hour, time.Minute
	c := openWith(t, n, dir, cfg)
	v := create(t, c, boxOn(onDevice(rbd())))
	n.dead.die("")
	if _, err := c.DeleteContainer(t.Context(), nil, str("a"), true); err != nil { // it goes, and its mount hangs
		stuckOrFail(t, err)
	}
	m := v.Mount.ID
	ctx, cancel := contextFor(t)
	defer cancel()
	o := c.objects[m]
	if !c.await(ctx, o, func() bool { return o.phase == Undoing }) {
		t.Fatal("its mount does not go")
	}
	for r, err := loadRecord(dir, int64(m)); !r.Pressed; r, err = loadRecord(dir, int64(m)) {
		if err != nil || !pause(ctx, time.Millisecond) {
			t.Fatalf("what is left to be taken down is recorded as %+v, %v", r, err)
		}
	}
	c.Close()
	openWith(t, n, dir, cfg)
	for len(n.dead.aborted()) == 0 && pause(ctx, time.Millisecond) {
	}
	if d := cmp.Diff([]ID{v.Mount.Attach.Attach.ID}, n.dead.aborted()); d != "" {
		t.Errorf("aborted by the next daemon: %s", d)
	}
}

// Of two deletions by force of one container the second finds it gone, wherever it was when the first had done its work.
func TestTwoDeletionsByForce(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout = 100 * time.Millisecond
	c := openWith(t, n, runDir(t), cfg)
	v := create(t, c, boxOn(nfs()))
	o := c.objects[v.ID]
	release, err := c.queue(t.Context(), o) // where the second waits
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	n.exit(v.ID, 0)
	answered := make(chan error, 1)
	go func() {
		_, err := c.DeleteContainer(t.Context(), nil, str("a"), true)
		answered <- err
	}()
	c.update(o, func() { o.phase, o.claimed = Gone, true }) // by the first
	if err := <-answered; !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted by another request: %v", err)
	}
	c.mu.Lock()
	err = c.claimable(o, true)
	c.mu.Unlock()
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("claimed once it has gone: %v", err)
	}
	c.update(o, func() { o.phase, o.claimed = Ready, false })
}

// An attachment that has not come to its end has its number all the same.
func TestAbortNamesWhatIsNotAttachedYet(t *testing.T) {
	n := onNode()
	c := openWith(t, n, runDir(t), storage(n))
	o := newObject(KindAttach, nil)
	o.id, o.attach, o.touched, o.phase = 7, rbd(), true, Undoing
	n.dead.die("")
	if !c.abort(t.Context(), o) {
		t.Error("nothing was aborted")
	}
	if d := cmp.Diff([]ID{7}, n.dead.aborted()); d != "" {
		t.Errorf("aborted: %s", d)
	}
}

// A dead layer does not hold up its healthy siblings.
func TestADeadLayerHoldsUpNoOther(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.Mount = mount.NewRegistry(healthyMount{fakeMount{n, "tmpfs"}}, healthyMount{fakeMount{n, "overlay"}}, fakeMount{n, "attach"})
	cfg.AnswerTimeout, cfg.UndoTimeout = 100*time.Millisecond, time.Minute
	c := openWith(t, n, runDir(t), cfg)
	lower := []*models.Mount{{Kind: "tmpfs", Tmpfs: &models.MountTmpfs{}}, onDevice(rbd()), {Kind: "tmpfs", Tmpfs: &models.MountTmpfs{}}}
	m := mounted(t, c, &models.Mount{Kind: "overlay", Overlay: &models.MountOverlay{Lower: lower}})
	n.dead.die("")
	if _, err := c.Unmount(t.Context(), int64(m.ID), false); err != nil {
		stuckOrFail(t, err)
	}
	ctx, cancel := contextFor(t)
	defer cancel()
	for len(n.left()) > 2 && pause(ctx, time.Millisecond) {
	}
	if d := cmp.Diff([]string{"device 2", "mount 3"}, n.left()); d != "" {
		t.Errorf("while the dead one hangs there is left: %s", d)
	}
	n.dead.revive()
	assertEmpty(t, n, c)
}
