package chain

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/fault"
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
