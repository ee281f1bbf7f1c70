package mounttest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/windlass-hpc/windlass/internal/crashtest"
	"github.com/windlass-hpc/windlass/internal/failpoint"
	"github.com/windlass-hpc/windlass/mount"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// order is what a child does.
type order struct {
	Unmount bool // else mount
	ID      mount.ID
	Spec    *models.Mount
	Below   []mount.Layer
	Target  mount.Target
}

// Main is the body of TestMain.
func Main(m *testing.M, newDriver func() mount.Driver) {
	crashtest.Main(m, func(ctx context.Context, o order) error { return o.carryOut(ctx, newDriver()) })
}

func (o order) carryOut(ctx context.Context, d mount.Driver) error {
	if o.Unmount {
		return d.Unmount(ctx, mount.Active{ID: o.ID, Target: o.Target}, false)
	}
	_, err := d.Mount(ctx, o.ID, o.Spec, o.Below, o.Target)
	return err
}

func (f fixture) order(t testing.TB, unmount bool) order {
	return order{Unmount: unmount, ID: 1, Spec: f.Spec, Below: f.Below, Target: f.target(t, 1)}
}

// course is how an order is killed: what it did is taken back by unmounting.
func (f fixture) course(t *testing.T, o order) crashtest.Course {
	undo := func() { f.unmount(t, mount.Active{ID: o.ID, Target: o.Target}) }
	return crashtest.Course{Order: o, Undo: undo, Pause: 100 * time.Microsecond}
}

func killed(t *testing.T, f fixture) {
	o := f.order(t, false)
	c := f.course(t, o)
	c.Before = func() { f.target(t, 1) }
	c.After = func(what string) {
		a, state, err := f.driver.Probe(t.Context(), 1, f.Spec, o.Target)
		if err != nil {
			t.Errorf("%s: probe: %v", what, err)
		}
		if state == mount.Ready {
			f.wantReady(t, a)
		} else if what == crashtest.Done {
			t.Errorf("%s: state %d, want ready", what, state)
		}
		f.cleanUp(t, what, o.Target)
	}
	c.Kill(t)
}

// cleanUp does as the chain does after a crash: unmount by id and target, then remove the mountpoint.
func (f fixture) cleanUp(t *testing.T, what string, target mount.Target) {
	t.Helper()
	f.unmount(t, mount.Active{ID: 1, Target: target})
	if _, state, err := f.driver.Probe(t.Context(), 1, f.Spec, target); err != nil || state != mount.Gone {
		t.Errorf("%s: after unmount state %d, %v", what, state, err)
	}
	if err := os.Remove(target.Dir); err != nil && !os.IsNotExist(err) {
		t.Errorf("%s: %v", what, err)
	}
	f.wantGone(t, 1)
}

func killedUnmounting(t *testing.T, f fixture) {
	o := f.order(t, true)
	c := f.course(t, o)
	c.Before = func() { f.mount(t, 1) }
	c.After = func(what string) {
		if a, state, _ := f.driver.Probe(t.Context(), 1, f.Spec, o.Target); state == mount.Ready {
			f.wantReady(t, a)
		}
		f.cleanUp(t, what, o.Target)
	}
	c.Kill(t)
}

// failing makes each step fail, and hang until the context ends. Only a build with failpoints can.
func failing(t *testing.T, f fixture) {
	if !failpoint.Enabled {
		return
	}
	for _, unmount := range []bool{false, true} {
		o := f.order(t, unmount)
		if unmount {
			f.mount(t, 1)
		}
		points := f.course(t, o).Points(t)
		for _, point := range points {
			f.fail(t, o, point, "error")
			f.fail(t, o, point, "hang")
		}
	}
}

func (f fixture) fail(t *testing.T, o order, point, action string) {
	t.Helper()
	if o.Unmount {
		f.mount(t, 1)
	}
	crashtest.Fail(t, o, point, action)
	if o.Unmount { // it can be tried again
		if a, state, _ := f.driver.Probe(t.Context(), 1, f.Spec, o.Target); state == mount.Ready {
			f.wantReady(t, a)
		}
		f.unmount(t, mount.Active{ID: 1, Target: o.Target})
	}
	f.wantGone(t, 1)
}
