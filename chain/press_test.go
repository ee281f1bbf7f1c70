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

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/fsmount"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// stuckOrFail holds an answer to a deletion of what hangs. That it came at all while it hangs shows that it did not wait.
func stuckOrFail(t *testing.T, err error, says ...string) {
	t.Helper()
	if !fault.Is(err, fault.Timeout) || !strings.HasPrefix(err.Error(), "stuck: ") {
		t.Fatalf("got %v, want a timeout that begins with stuck", err)
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%q does not say %q", err, s)
		}
	}
}

func TestADeletionThatHangsIsAnsweredAndGoesOn(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.UndoTimeout = 200*time.Millisecond, time.Minute
	c := openWith(t, n, runDir(t), cfg)
	m := mounted(t, c, onDevice(rbd()))
	n.dead.die("stuck: osd.3 has not answered since 12:00")
	_, err := c.Unmount(t.Context(), int64(m.ID), false)
	stuckOrFail(t, err, "mount 2", "attach 1: stuck: osd.3 has not answered")
	if !strings.Contains(fault.HintOf(err), "force") {
		t.Errorf("the hint is %q", fault.HintOf(err))
	}
	got, err := c.Mounts((*int64)(&m.ID), "")
	if err != nil || got[0].State != string(Undoing) || !strings.HasPrefix(got[0].Error, "stuck: ") {
		t.Fatalf("it shows as %+v, %v", got, err)
	}
	if dev := got[0].Attach.Attach; !strings.Contains(dev.Error, "osd.3") {
		t.Errorf("the device shows as %+v", dev)
	}
	if _, err := c.Unmount(t.Context(), int64(m.ID), false); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "being taken down already: stuck: ") {
		t.Errorf("deleted again: %v", err)
	}
	if a := n.dead.aborted(); len(a) > 0 {
		t.Errorf("without force %v was aborted", a)
	}
	n.dead.revive()
	assertEmpty(t, n, c)
}

func TestForceAbortsWhatDoesNotAnswer(t *testing.T) {
	for name, again := range map[string]bool{"at once": false, "of what is being taken down": true} {
		t.Run(name, func(t *testing.T) {
			n := onNode()
			cfg := storage(n)
			cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout = 20*time.Second, 50*time.Millisecond, time.Minute
			c := openWith(t, n, runDir(t), cfg)
			m := mounted(t, c, onDevice(rbd()))
			n.dead.die("")
			if again {
				c.cfg.AnswerTimeout = 100 * time.Millisecond
				_, err := c.Unmount(t.Context(), int64(m.ID), false)
				stuckOrFail(t, err)
				c.cfg.AnswerTimeout = 20 * time.Second
			}
			if _, err := c.Unmount(t.Context(), int64(m.ID), true); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff([]ID{1}, n.dead.aborted()); d != "" {
				t.Errorf("aborted: %s", d)
			}
			assertEmpty(t, n, c)
		})
	}
}

// What answers is not aborted, however long it takes.
func TestForceLetsBeWhatAnswers(t *testing.T) {
	n := onNode()
	n.stallAt, n.stall = 3, make(chan struct{}) // the unmount
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout = 300*time.Millisecond, 10*time.Millisecond, time.Minute
	c := openWith(t, n, runDir(t), cfg)
	m := mounted(t, c, onDevice(rbd()))
	_, err := c.Unmount(t.Context(), int64(m.ID), true)
	stuckOrFail(t, err, "mount 2")
	if a := n.dead.aborted(); len(a) > 0 {
		t.Errorf("%v was aborted", a)
	}
	close(n.stall)
	assertEmpty(t, n, c)
}

func TestForceLetsBeWhatOthersHold(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout = 400*time.Millisecond, 10*time.Millisecond, time.Minute
	c := openWith(t, n, runDir(t), cfg)
	dev, err := c.Attach(t.Context(), rbd())
	if err != nil {
		t.Fatal(err)
	}
	one := mounted(t, c, onDevice(&models.Attach{ID: dev.ID}))
	n.dead.die("stuck: no osd")
	_, err = c.Unmount(t.Context(), int64(one.ID), true)
	stuckOrFail(t, err, "no osd")
	if a := n.dead.aborted(); len(a) > 0 {
		t.Errorf("%v was aborted, which its client holds", a)
	}
	n.dead.revive()
	n.dead.die("stuck: no osd")
	if _, err := c.Detach(t.Context(), int64(dev.ID), true); err != nil && !fault.Is(err, fault.Timeout) {
		t.Fatal(err)
	}
	if d := cmp.Diff([]ID{dev.ID}, n.dead.aborted()); d != "" {
		t.Errorf("what the client named was not aborted: %s", d)
	}
	assertEmpty(t, n, c)
}

// Two attachments of one image share its device.
func TestForceLetsBeADeviceThatIsShared(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout = 400*time.Millisecond, 10*time.Millisecond, time.Minute
	c := openWith(t, n, runDir(t), cfg)
	one, two := mounted(t, c, onDevice(rbd())), mounted(t, c, onDevice(rbd()))
	for _, id := range []ID{one.Attach.Attach.ID, two.Attach.Attach.ID} {
		c.update(c.objects[id], func() { c.objects[id].device.Path = "/dev/rbd0" })
	}
	n.dead.die("")
	_, err := c.Unmount(t.Context(), int64(one.ID), true)
	stuckOrFail(t, err)
	if a := n.dead.aborted(); len(a) > 0 {
		t.Errorf("%v was aborted, and with it the other chain", a)
	}
	n.dead.revive()
	if _, err := c.Unmount(t.Context(), int64(two.ID), true); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}

// Busy with force: whoever holds it may wait for what is dead.
func TestForceAbortsWhatKeepsItBusy(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout = 20 * time.Second
	c := openWith(t, n, runDir(t), cfg)
	m := mounted(t, c, nfs())
	n.busy[m.ID] = true
	if _, err := c.Unmount(t.Context(), int64(m.ID), true); !fault.Is(err, fault.Busy) {
		t.Fatalf("busy, and the server answers: %v", err)
	}
	n.dead.die("")
	gate := n.dead.begin()
	go func() { // who held it lets go at the error
		<-gate
		n.mu.Lock()
		n.busy[m.ID] = false
		n.mu.Unlock()
	}()
	if _, err := c.Unmount(t.Context(), int64(m.ID), true); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}

// The same while press aborts already: what that does counts.
func TestForceWaitsForTheAbortThatIsUnderWay(t *testing.T) {
	n := onNode()
	slow := slowMount{storageMount{fakeMount{n, "nfs"}}, make(chan struct{}), make(chan struct{})}
	cfg := storage(n)
	cfg.Mount = mount.NewRegistry(append(fakeMounts(n), slow)...)
	cfg.AnswerTimeout = 20 * time.Second
	c := openWith(t, n, runDir(t), cfg)
	m := mounted(t, c, nfs())
	n.busy[m.ID] = true
	n.dead.die("stuck: no answer")
	gate := n.dead.begin()
	go func() { // who held it lets go at the error
		<-gate
		n.mu.Lock()
		n.busy[m.ID] = false
		n.mu.Unlock()
	}()
	if _, err := c.Unmount(t.Context(), int64(m.ID), true); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}

// A call that hangs and was begun without force is given up and made again with it, also where there is nothing to abort.
func TestForceBeginsAnewByForce(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.Mount = mount.NewRegistry(append(fakeMounts(n), stubbornMount{storageMount{fakeMount{n, "nfs"}}})...)
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout = 100*time.Millisecond, 10*time.Millisecond, time.Minute
	c := openWith(t, n, runDir(t), cfg)
	m := mounted(t, c, nfs())
	n.dead.die("")
	_, err := c.Unmount(t.Context(), int64(m.ID), false)
	stuckOrFail(t, err)
	c.cfg.AnswerTimeout = 20 * time.Second
	if _, err := c.Unmount(t.Context(), int64(m.ID), true); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]ID{m.ID}, n.dead.forced); d != "" {
		t.Errorf("by force: %s", d)
	}
	assertEmpty(t, n, c)
}

func boxOn(m *models.Mount) *models.Container {
	return &models.Container{Name: "a", Command: str("/bin/x"), State: models.ContainerStateRunning, Mount: m}
}

// A container whose processes wait for dead storage can neither stop nor be killed before that is aborted.
func TestForceEndsAContainerOnDeadStorage(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout, cfg.StopTimeout = 20*time.Second, 50*time.Millisecond, time.Minute, time.Hour
	c := openWith(t, n, runDir(t), cfg)
	v := create(t, c, boxOn(onDevice(rbd())))
	n.running[v.ID].stubborn = true
	n.dead.die("")
	if _, err := c.DeleteContainer(t.Context(), nil, str("a"), true); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]ID{1}, n.dead.aborted()); d != "" {
		t.Errorf("aborted: %s", d)
	}
	assertEmpty(t, n, c)
}

// One that only needs its grace is not called stuck.
func TestForceWaitsForAHealthyContainer(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.StopTimeout = 2*time.Second, 10*time.Millisecond, 3*time.Second
	c := openWith(t, n, runDir(t), cfg)
	v := create(t, c, boxOn(onDevice(rbd())))
	n.running[v.ID].stubborn = true
	began := time.Now()
	if _, err := c.DeleteContainer(t.Context(), nil, str("a"), true); err != nil {
		t.Fatal(err)
	}
	if time.Since(began) < cfg.StopTimeout {
		t.Error("it was not given its grace")
	}
	assertEmpty(t, n, c)
}

// While a container is stuck everything else that is asked of it is answered.
func TestAStuckContainerKeepsNobodyWaiting(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.Attach = attach.NewRegistry(stubbornAttach{storageAttach{fakeAttach{n}, "rbd"}})
	cfg.AnswerTimeout, cfg.ForceAfter, cfg.UndoTimeout, cfg.StopTimeout = 200*time.Millisecond, 10*time.Millisecond, time.Minute, time.Millisecond
	c := openWith(t, n, runDir(t), cfg)
	v := create(t, c, boxOn(onDevice(rbd())))
	n.running[v.ID].stubborn = true
	n.dead.die("")
	_, err := c.DeleteContainer(t.Context(), nil, str("a"), true)
	stuckOrFail(t, err, "container 3")
	_, err = c.DeleteContainer(t.Context(), nil, str("a"), true)
	stuckOrFail(t, err, "container 3")
	grace := time.Duration(0)
	for _, state := range []string{"exited", "paused", "running"} {
		if _, err := c.SetContainerState(t.Context(), nil, str("a"), state, &grace); err != nil && !fault.Is(err, fault.BadState) {
			t.Errorf("%s: %v", state, err)
		}
	}
	got, err := c.Containers(nil, str("a"), "")
	if err != nil || got[0].State != models.ContainerStateStopping {
		t.Errorf("it shows as %+v, %v", got, err)
	}
	n.dead.revive()
	assertEmpty(t, n, c)
}

func TestExecOnDeadStorageIsAnswered(t *testing.T) {
	n := onNode()
	cfg := storage(n)
	cfg.AnswerTimeout = 100 * time.Millisecond
	c := openWith(t, n, runDir(t), cfg)
	v := create(t, c, boxOn(nfs()))
	n.dead.die("stuck: the server has not answered since 12:00")
	t.Cleanup(n.dead.revive)
	_, err := c.Exec(t.Context(), int64(v.ID), &models.ExecSpec{})
	stuckOrFail(t, err, "mount 1: stuck: the server")
}

// A removal that hangs does not keep the daemon from ending, and the next one goes on with it.
func TestCloseDoesNotWaitForWhatHangs(t *testing.T) {
	n, dir := onNode(), runDir(t)
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.UndoTimeout = 50*time.Millisecond, time.Minute
	c := openWith(t, n, dir, cfg)
	m := mounted(t, c, nfs())
	n.dead.die("")
	_, err := c.Unmount(t.Context(), int64(m.ID), false)
	stuckOrFail(t, err)
	c.Close()
	n.dead.revive()
	cfg = storage(n)
	assertEmpty(t, n, openWith(t, n, dir, cfg))
}

func TestWhatIsStuckIsSaidOnceAndFirst(t *testing.T) {
	o := newObject(KindMount, nil)
	o.id = 3
	err := about(o, "nfs", fault.New(fault.Timeout, "stuck: umount has not come back in 4s"))
	if err.Error() != "stuck: mount 3 (nfs): umount has not come back in 4s" || !fault.Is(err, fault.Timeout) {
		t.Errorf("%v (%s)", err, fault.KindOf(err))
	}
	if err := about(o, "nfs", errors.New("no")); err.Error() != "mount 3 (nfs): no" {
		t.Error(err)
	}
	for _, tc := range [][3]string{{"", "", ""}, {"a", "", "a"}, {"", "b", "b"}, {"a", "b", "a; b"}, {"a: b", "b", "a: b"}} {
		if got := bothErrors(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%q and %q: %q", tc[0], tc[1], got)
		}
	}
}

// What lies on this node alone is not called stuck because it is slow.
func TestALocalDeletionIsWaitedFor(t *testing.T) {
	n := onNode()
	n.stallAt, n.stall = 3, make(chan struct{}) // the unmount
	cfg := storage(n)
	cfg.AnswerTimeout, cfg.UndoTimeout = 10*time.Millisecond, time.Minute
	c := openWith(t, n, runDir(t), cfg)
	m := mounted(t, c, squashfs())
	answered := make(chan error, 1)
	go func() {
		_, err := c.Unmount(t.Context(), int64(m.ID), false)
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("it was answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	n.stall <- struct{}{} // it comes back late, and is tried again
	if err := <-answered; err == nil || fault.Is(err, fault.Timeout) {
		t.Errorf("got %v, want what the driver said", err)
	}
	assertEmpty(t, n, c)
}

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
