package attachtest

import (
	"context"
	"testing"

	"github.com/windlass-hpc/windlass/attach"
	"github.com/windlass-hpc/windlass/internal/crashtest"
	"github.com/windlass-hpc/windlass/internal/failpoint"
	"github.com/windlass-hpc/windlass/swagger/models"
)

// order is what a child does.
type order struct {
	Instance string
	Detach   bool // else attach
	ID       attach.ID
	Spec     *models.Attach
}

// Main is the body of TestMain.
func Main(m *testing.M, s Suite) {
	crashtest.Main(m, func(ctx context.Context, o order) error { return o.carryOut(ctx, s.New(o.Instance)) })
}

func (o order) carryOut(ctx context.Context, d attach.Driver) error {
	if o.Detach {
		return d.Detach(ctx, attach.Device{ID: o.ID}, false)
	}
	_, err := d.Attach(ctx, o.ID, o.Spec, root())
	return err
}

func (f fixture) order(spec *models.Attach) order {
	return order{Instance: f.instance, ID: 1, Spec: spec}
}

// course is how an order is killed: what it did is taken back by detaching.
func (f fixture) course(t *testing.T, o order) crashtest.Course {
	undo := func() { f.detach(t, attach.Device{ID: o.ID}) }
	return crashtest.Course{Order: o, Before: func() {}, Undo: undo, Pause: f.pause(), Passive: f.Passive}
}

func killed(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	c := f.course(t, f.order(spec))
	c.After = func(what string) {
		dev, state := f.probe(t, 1, spec)
		if state == attach.Ready {
			check(t, dev, f.content)
		} else if what == crashtest.Done {
			t.Errorf("%s: state %d, want ready", what, state)
		}
		if state != attach.Gone {
			f.detach(t, dev)
		}
		f.wantGone(t, 1, spec)
	}
	c.Kill(t)
}

func killedDetaching(t *testing.T, f fixture) {
	spec := f.Spec(t, f.image)
	o := f.order(spec)
	o.Detach = true
	c := f.course(t, o)
	c.Before = func() { f.attach(t, 1, spec) }
	c.After = func(string) {
		if dev, state := f.probe(t, 1, spec); state == attach.Ready {
			check(t, dev, f.content)
		}
		f.detach(t, attach.Device{ID: 1})
		f.wantGone(t, 1, spec)
	}
	c.Kill(t)
}

// failing makes each step fail, and hang until the context ends. Only a build with failpoints can.
func failing(t *testing.T, f fixture) {
	if !failpoint.Enabled {
		return
	}
	spec := f.Spec(t, f.image)
	o := f.order(spec)
	points := f.course(t, o).Points(t)
	for _, point := range points {
		for _, action := range []string{"error", "hang"} {
			crashtest.Fail(t, o, point, action)
			f.wantGone(t, 1, spec)
		}
	}
}
