package chain

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/windlass-hpc/windlass/container"
	"github.com/windlass-hpc/windlass/internal/fault"
	"github.com/windlass-hpc/windlass/swagger/models"
)

func TestStopEscalates(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	v := create(t, c, nested("a"))
	n.running[v.ID].stubborn = true
	grace := 50 * time.Millisecond
	got, err := c.SetContainerState(t.Context(), nil, str("a"), "exited", &grace)
	if err != nil || got.State != models.ContainerStateStopping {
		t.Fatalf("state %v, %v", got, err)
	}
	got = state(t, c, v.ID, models.ContainerStateExited)
	if *got.ExitCode != 137 {
		t.Errorf("exit code %d, want 137", *got.ExitCode)
	}
	if d := cmp.Diff([]int{stopSystemd}, n.running[v.ID].signals); d != "" {
		t.Error(d)
	}
	if got, err = c.SetContainerState(t.Context(), nil, str("a"), "exited", nil); err != nil || got.State != models.ContainerStateExited {
		t.Errorf("stopping what has exited: %v %v", got, err)
	}
}

func TestPauseAndWait(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	v := create(t, c, nested("a"))
	if got, err := c.SetContainerState(t.Context(), nil, str("a"), "paused", nil); err != nil || got.State != models.ContainerStatePaused {
		t.Fatalf("%v %v", got, err)
	}
	if got, err := c.SetContainerState(t.Context(), nil, str("a"), "running", nil); err != nil || got.State != models.ContainerStateRunning {
		t.Fatalf("%v %v", got, err)
	}
	go n.change(v.ID, func(s *container.Status) { s.State, s.ExitCode = container.Exited, 5 })
	got, err := c.WaitContainer(t.Context(), int64(v.ID), "ended")
	if err != nil || *got.ExitCode != 5 {
		t.Errorf("%v %v", got, err)
	}
	if _, err := c.WaitContainer(t.Context(), int64(v.ID), "ready"); !fault.Is(err, fault.BadState) {
		t.Errorf("waiting for what cannot come: %v", err)
	}
}

// A kill that fails is tried again, but not as fast as the processor can.
func TestFailingKillIsNotTriedInALoop(t *testing.T) {
	n := newNode()
	c := open(t, n, runDir(t))
	v := create(t, c, nested("a"))
	n.running[v.ID].stubborn, n.killErr = true, errors.New("no descriptor is left")
	grace := time.Duration(0)
	if _, err := c.SetContainerState(t.Context(), nil, str("a"), "exited", &grace); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	o := c.objects[v.ID]
	c.await(ctx, o, func() bool { return false })
	n.mu.Lock()
	kills := n.kills
	n.killErr = nil
	n.mu.Unlock()
	if kills == 0 || kills > 2 {
		t.Errorf("%d kills in half a second", kills)
	}
	state(t, c, v.ID, models.ContainerStateExited)
}

// A container that cannot be followed at first is followed later.
func TestLostSightIsRegained(t *testing.T) {
	n := newNode()
	n.blind = 1
	c := open(t, n, runDir(t))
	v := create(t, c, nested("a"))
	n.exit(v.ID, 4)
	if got := state(t, c, v.ID, models.ContainerStateExited); *got.ExitCode != 4 {
		t.Errorf("exit code %d, want 4", *got.ExitCode)
	}
}

func TestStopWhileItIsBeingRaisedIsRefused(t *testing.T) {
	n := newNode()
	n.stallAt = 3
	c := open(t, n, runDir(t))
	ended := make(chan error, 1)
	go func() {
		_, err := c.CreateContainer(t.Context(), nested("a"))
		ended <- err
	}()
	ctx, cancel := contextFor(t)
	defer cancel()
	for e := range c.Events(ctx, new(int64), true) {
		if e.Type == "mount.doing" && e.Object == 3 {
			break
		}
	}
	if _, err := c.SetContainerState(t.Context(), nil, str("a"), "exited", nil); !fault.Is(err, fault.BadState) {
		t.Errorf("got %v, want bad_state", err)
	}
	<-ended
	assertEmpty(t, n, c)
}

// What is being raised when the daemon is told to stop is undone before it ends, and nothing new is begun.
func TestStoppingUndoesWhatIsBeingRaised(t *testing.T) {
	n := newNode()
	n.stallAt = 3
	dir := runDir(t)
	c := open(t, n, dir)
	c.cfg.StepTimeout = time.Minute
	ended := make(chan error, 1)
	go func() {
		_, err := c.CreateContainer(t.Context(), nested("a"))
		ended <- err
	}()
	ctx, cancel := contextFor(t)
	defer cancel()
	for e := range c.Events(ctx, new(int64), true) {
		if e.Type == "mount.doing" && e.Object == 3 {
			break
		}
	}
	c.Stopping()
	if _, err := c.Mount(t.Context(), squashfs()); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v, want unavailable", err)
	}
	if err := <-ended; err == nil {
		t.Error("it was created all the same")
	}
	assertEmpty(t, n, c)
}
