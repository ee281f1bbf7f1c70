package chain

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/internal/rundir"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func runDir(t *testing.T) rundir.Dir { return rundir.Dir(filepath.Join(t.TempDir(), "run")) }

func create(t *testing.T, c *Chain, spec *models.Container) *models.Container {
	t.Helper()
	v, err := c.CreateContainer(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// state waits until a container is in a state.
func state(t *testing.T, c *Chain, id models.ID, want models.ContainerState) *models.Container {
	t.Helper()
	o, err := c.containerBy((*int64)(&id), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextFor(t)
	defer cancel()
	if !c.await(ctx, o, func() bool { return o.ctr.State == want }) {
		t.Fatalf("container %d is %s, want %s", id, c.stateOf(o), want)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.viewContainer(o)
}

func TestNestedDefinitionIsRaisedFromBelow(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	v := create(t, c, nested("a"))
	overlay := v.Mount
	lower := overlay.Overlay.Lower[0]
	loop := lower.Attach.Attach
	got := []any{v.ID, overlay.ID, lower.ID, loop.ID, v.Refs, overlay.Refs, lower.Refs, loop.Refs, v.State}
	want := []any{ID(4), ID(3), ID(2), ID(1), int64(1), int64(1), int64(1), int64(1), models.ContainerStateRunning}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"mount:2"}, loop.Holders); d != "" {
		t.Error(d)
	}
	if !c.objects[1].device.ReadOnly {
		t.Error("the device of a squashfs is not read-only")
	}
	if _, err := c.DeleteContainer(t.Context(), nil, str("a"), false); !fault.Is(err, fault.Busy) {
		t.Errorf("deleting a running container: %v, want busy", err)
	}
	if _, err := c.DeleteContainer(t.Context(), nil, str("a"), true); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}

// assertEmpty holds that nothing is left: not on the node, not in the list, no record.
func assertEmpty(t *testing.T, n *node, c *Chain) {
	t.Helper()
	ctx, cancel := contextFor(t)
	defer cancel()
	for len(c.left()) > 0 && ctx.Err() == nil {
		<-time.After(5 * time.Millisecond)
	}
	if left := n.left(); len(left) > 0 {
		t.Errorf("left on the node: %v\ncalls: %v", left, n.log)
	}
	if left := c.left(); len(left) > 0 {
		t.Errorf("left in the list: %v", left)
	}
	for _, dir := range []string{c.dir.Records(), c.dir.Mounts()} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			t.Errorf("left in %s: %s", filepath.Base(dir), e.Name())
		}
	}
}

func (c *Chain) left() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var left []string
	for _, o := range c.objects {
		left = append(left, o.String()+" "+string(o.phase)+" "+o.err)
	}
	return left
}

// Wherever a driver call fails or hangs, the node is as before and the answer says why.
func TestRollbackAtEveryDriverCall(t *testing.T) {
	probe := newNode()
	c := open(t, probe, runDir(t))
	create(t, c, nested("a"))
	calls := probe.calls
	for _, how := range []string{"fails", "hangs"} {
		for i := 1; i <= calls; i++ {
			n := newNode()
			if how == "fails" {
				n.failAt = i
			} else {
				n.stallAt = i
			}
			c := open(t, n, runDir(t))
			_, err := c.CreateContainer(t.Context(), nested("a"))
			if err == nil {
				t.Fatalf("call %d %s, and the container was created all the same", i, how)
			}
			if how == "hangs" && !fault.Is(err, fault.Timeout) {
				t.Errorf("call %d hangs: %v is of kind %s, want a timeout", i, err, fault.KindOf(err))
			}
			assertEmpty(t, n, c)
			create(t, c, nested("a")) // the name is free again, and all works
		}
	}
}

// A call that is stuck for good holds up neither the answer nor other objects; what it made goes once it comes back.
func TestStuckDriverCall(t *testing.T) {
	n := newNode()
	n.stallAt, n.stall = 2, make(chan struct{})
	c := open(t, n, runDir(t))
	began := time.Now()
	_, err := c.CreateContainer(t.Context(), nested("a"))
	if !fault.Is(err, fault.Timeout) {
		t.Fatalf("got %v, want a timeout", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the answer took %s", took)
	}
	mounts, err := c.Mounts(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(mounts) != 1 || !strings.Contains(mounts[0].Error, "stuck") {
		t.Errorf("the stuck mount is not named: %+v", mounts)
	}
	create(t, c, nested("b"))
	if _, err := c.DeleteContainer(t.Context(), nil, str("b"), true); err != nil {
		t.Fatal(err)
	}
	close(n.stall)
	assertEmpty(t, n, c)
}

func TestReferenceKeepsWhatItNames(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	m, err := c.Mount(t.Context(), squashfs())
	if err != nil {
		t.Fatal(err)
	}
	over := &models.Mount{Kind: "overlay", Overlay: &models.MountOverlay{Lower: []*models.Mount{{ID: m.ID}}}}
	o, err := c.Mount(t.Context(), over)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Mounts((*int64)(&m.ID), "")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"client", "mount:3"}, got[0].Holders); d != "" || got[0].Refs != 2 {
		t.Errorf("holders %s, refs %d", d, got[0].Refs)
	}
	if _, err := c.Unmount(t.Context(), int64(m.ID), false); !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "mount:3") {
		t.Errorf("deleting what is in use: %v, want busy and the holder", err)
	}
	if _, err := c.Unmount(t.Context(), int64(o.ID), false); err != nil {
		t.Fatal(err)
	}
	got, err = c.Mounts((*int64)(&m.ID), "")
	if err != nil || got[0].Refs != 1 {
		t.Errorf("what was only named has gone or kept a hold: %v %v", got, err)
	}
	if _, err := c.Unmount(t.Context(), int64(m.ID), false); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}

func TestUnknownReferenceTouchesNothing(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	spec := nested("a")
	spec.Mount.Overlay.Lower = append(spec.Mount.Overlay.Lower, &models.Mount{ID: 99})
	if _, err := c.CreateContainer(t.Context(), spec); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v, want not found", err)
	}
	if n.calls != 0 {
		t.Errorf("drivers were called: %v", n.log)
	}
	assertEmpty(t, n, c)
}

func TestDuplicateNameMountsNothing(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	create(t, c, nested("a"))
	before := n.calls
	if _, err := c.CreateContainer(t.Context(), nested("a")); !fault.Is(err, fault.Exists) {
		t.Errorf("got %v, want exists", err)
	}
	if n.calls != before {
		t.Errorf("drivers were called: %v", n.log[before:])
	}
}

func TestBusyMountStaysAsItWas(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	m, err := c.Mount(t.Context(), squashfs())
	if err != nil {
		t.Fatal(err)
	}
	n.busy[m.ID] = true
	if _, err := c.Unmount(t.Context(), int64(m.ID), true); !fault.Is(err, fault.Busy) {
		t.Fatalf("got %v, want busy", err)
	}
	got, err := c.Mounts((*int64)(&m.ID), "")
	if err != nil || got[0].State != string(Ready) || got[0].Refs != 1 {
		t.Errorf("after busy: %+v %v", got, err)
	}
	n.mu.Lock()
	n.busy[m.ID] = false
	n.mu.Unlock()
	if _, err := c.Unmount(t.Context(), int64(m.ID), false); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}

// What lies below and is still busy when its holder goes is tried again until it goes.
func TestBusyOrphanIsRetried(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	m, err := c.Mount(t.Context(), squashfs())
	if err != nil {
		t.Fatal(err)
	}
	loop := m.Attach.Attach.ID
	n.busy[loop] = true
	if _, err := c.Unmount(t.Context(), int64(m.ID), false); err != nil {
		t.Fatal(err)
	}
	got, err := c.Attachments((*int64)(&loop), "")
	if err != nil || got[0].State != string(Undoing) || !strings.Contains(got[0].Error, "pid 1") {
		t.Errorf("the orphan does not say who holds it: %+v %v", got, err)
	}
	n.mu.Lock()
	n.busy[loop] = false
	n.mu.Unlock()
	assertEmpty(t, n, c)
}

func TestRestartAdopts(t *testing.T) {
	n, dir := newNode(), runDir(t)
	c := open(t, n, dir)
	v := create(t, c, nested("a"))
	create(t, c, nested("b"))
	c.Close()
	n.exit(8, 3) // while no daemon runs
	c = open(t, n, dir)
	got := state(t, c, v.ID, models.ContainerStateRunning)
	if got.Name != "a" || got.Mount.Overlay.Lower[0].Attach.Attach.DeviceFile != "/dev/fake1" {
		t.Errorf("adopted: %+v", got)
	}
	if b := state(t, c, 8, models.ContainerStateExited); *b.ExitCode != 3 {
		t.Errorf("exit code %d, want 3", *b.ExitCode)
	}
	if next := create(t, c, nested("c")); next.ID != 12 {
		t.Errorf("the next id is %d, want 12", next.ID)
	}
	for _, name := range []string{"a", "b", "c"} {
		if _, err := c.DeleteContainer(t.Context(), nil, &name, true); err != nil {
			t.Error(err)
		}
	}
	assertEmpty(t, n, c)
}

func TestRestartUndoesWhatWasBegun(t *testing.T) {
	n, dir := newNode(), runDir(t)
	c := open(t, n, dir)
	create(t, c, nested("a"))
	for _, o := range c.objects { // as if killed before the records became ready
		c.mu.Lock()
		o.phase = Planned
		c.mu.Unlock()
		if err := c.save(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	n.put(77, "device") // and something without a record
	c = open(t, n, dir)
	assertEmpty(t, n, c)
}

func TestUnreadableRecordIsLeftAlone(t *testing.T) {
	n, dir := newNode(), runDir(t)
	c := open(t, n, dir)
	create(t, c, nested("a"))
	c.Close()
	if err := os.WriteFile(dir.Record(4), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c = open(t, n, dir)
	if d := cmp.Diff([]string{"container 4", "device 1", "mount 2", "mount 3"}, n.left()); d != "" {
		t.Errorf("something was taken away: %s", d)
	}
	if next := create(t, c, nested("b")); next.ID <= 4 {
		t.Errorf("id %d was given again", next.ID)
	}
}

func TestLostMountIsRaisedAgain(t *testing.T) {
	n, dir := newNode(), runDir(t)
	c := open(t, n, dir)
	m, err := c.Mount(t.Context(), squashfs())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	delete(n.there, m.ID)
	c = open(t, n, dir)
	got, err := c.Mounts((*int64)(&m.ID), "")
	if err != nil || got[0].State != string(Ready) || !n.has(m.ID) {
		t.Errorf("%+v %v", got, err)
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	n, dir := newNode(), runDir(t)
	c := open(t, n, dir)
	_, err := Open(t.Context(), c.cfg)
	if !fault.Is(err, fault.Busy) {
		t.Errorf("got %v, want busy", err)
	}
}

// An object that goes while it cannot be deleted goes in the end, and is not left without a holder.
func TestBusyChildOfAnEndingParentGoes(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	m, err := c.Mount(t.Context(), squashfs())
	if err != nil {
		t.Fatal(err)
	}
	loop := m.Attach.Attach.ID
	n.busy[loop] = true
	if _, err := c.Detach(t.Context(), int64(loop), true); !fault.Is(err, fault.Busy) {
		t.Fatalf("got %v, want busy", err)
	}
	if got, err := c.Attachments((*int64)(&loop), ""); err != nil || got[0].State != string(Ready) || got[0].Refs != 1 {
		t.Errorf("after busy: %+v %v", got, err)
	}
	n.mu.Lock()
	n.busy[loop] = false
	n.mu.Unlock()
	if _, err := c.Unmount(t.Context(), int64(m.ID), false); err != nil {
		t.Fatal(err)
	}
	assertEmpty(t, n, c)
}
